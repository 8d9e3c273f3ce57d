# SPDX-License-Identifier: Apache-2.0
"""What a builder in tests works with: a registry that it takes for docker.io, and a small image in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.builder.buildkitd import Buildkitd, buildkitd
from support.deb.debian import need
from support.image.busybox import busybox_image
from support.image.images import Image, skopeo, write_layout
from support.server.registry import docker_registry

BASE = "docker.io/library/base:1"


@dataclass(frozen=True, kw_only=True)
class Builder:
    """A buildkitd that resolves `BASE` to `image`, which is in the registry at `registry`."""

    daemon: Buildkitd
    registry: str
    image: Image


@contextmanager
def registry_with_base() -> Iterator[tuple[str, Image]]:
    """Run a registry that holds the image under docker.io's name for it."""
    need("skopeo", "docker-registry")
    image = busybox_image()
    with tempfile.TemporaryDirectory(prefix="copa-registry-") as text:
        folder = Path(text)
        layout = write_layout(folder / "layout", {"1": image})
        with docker_registry(folder) as host:
            target = f"docker://{host}/library/base:1"
            skopeo("copy", "--dest-tls-verify=false", "--preserve-digests", f"oci:{layout}:1", target)
            yield host, image


@contextmanager
def builder() -> Iterator[Builder]:
    """Start everything; skips the test where something is missing."""
    with registry_with_base() as (host, image), buildkitd(mirrors={"docker.io": host}) as daemon:
        yield Builder(daemon=daemon, registry=host, image=image)
