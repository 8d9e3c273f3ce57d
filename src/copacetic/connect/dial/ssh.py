# SPDX-License-Identifier: Apache-2.0
"""
`ssh://[USER@]HOST[:PORT][/SOCKET]`: the ssh program, and `dial-stdio` of buildctl or docker at the other end.

Keys, agents, jump hosts and host keys are what the user's ssh configuration says. The remote side runs the command
in a shell, so everything in it has gone through the grammar of addresses, which lets no shell's character pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from copacetic.connect.address import SshAddress
from copacetic.connect.dial.process import ProcessStream

__all__ = ["connect_buildctl", "connect_docker"]

_MISSING = "install ssh (openssh-client), or use another kind of address"


def connect_buildctl(address: SshAddress, *, name: str, seconds: float) -> ProcessStream:
    """Connect to buildkitd on the host, at the socket or wherever buildctl there looks for it."""
    where = ("--addr", f"unix://{address.socket}") if address.socket else ()
    return _connect(address, ("buildctl", *where, "dial-stdio"), name, seconds)


def connect_docker(address: SshAddress, *, name: str, seconds: float) -> ProcessStream:
    """Connect to the Docker engine on the host, at the socket or wherever docker there looks for it."""
    where = ("--host", f"unix://{address.socket}") if address.socket else ()
    return _connect(address, ("docker", *where, "system", "dial-stdio"), name, seconds)


def _connect(address: SshAddress, command: Sequence[str], name: str, seconds: float) -> ProcessStream:
    # A master connection of this run's would outlive it; one that the user has already is used.
    options = ["-T", "-o", f"ConnectTimeout={max(1, int(seconds))}", "-o", "ControlMaster=no"]
    if address.user:
        options += ["-l", address.user]
    if address.port is not None:
        options += ["-p", str(address.port)]
    return ProcessStream(("ssh", *options, "--", address.host, *command), name=name, missing=_MISSING)
