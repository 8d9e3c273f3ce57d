# SPDX-License-Identifier: Apache-2.0
"""`podman-container://NAME` and `nerdctl-container://NAME`: their programs run `buildctl dial-stdio` in it."""

from __future__ import annotations

from copacetic.connect.address import ContainerAddress
from copacetic.connect.dial.process import ProcessStream

__all__ = ["connect_container"]


def connect_container(address: ContainerAddress, *, name: str) -> ProcessStream:
    """Connect by podman or nerdctl; docker has an API for it (`dial.dockerexec`)."""
    options = ("--namespace", address.namespace) if address.namespace else ()
    command = (address.engine, "exec", *options, "-i", address.name, "buildctl", "dial-stdio")
    return ProcessStream(command, name=name, missing=f"install {address.engine}, or use another kind of address")
