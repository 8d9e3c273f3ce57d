# SPDX-License-Identifier: Apache-2.0
"""What this machine has itself, for images that lack repositories or keys; only where both are of one distribution."""

from __future__ import annotations

from pathlib import Path

from copacetic.distro import Distro
from copacetic.errors import ImageError
from copacetic.oci.directory import DirectoryFilesystem

__all__ = ["open_host"]

_OS_RELEASE_LIMIT = 64 * 1024


def open_host(root: Path | None, distro: Distro) -> tuple[DirectoryFilesystem, Distro] | None:
    """Return this machine's files and its identity when its distribution is the image's; `root` None forbids that."""
    if root is None:
        return None
    host = DirectoryFilesystem(root)
    try:
        own = Distro.parse(host.read("etc/os-release", limit=_OS_RELEASE_LIMIT))
    except (FileNotFoundError, ImageError):
        return None
    return (host, own) if own.id == distro.id else None
