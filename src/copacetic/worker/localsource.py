# SPDX-License-Identifier: Apache-2.0
"""A directory of the caller's as the plain tar of a layer."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from copacetic.errors import SolverError
from copacetic.localtree import walk_tree
from copacetic.oci.change import Change, Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.layerwriter import plain_parts

__all__ = ["directory_state", "directory_tar"]


def directory_state(root: Path) -> str:
    """Digest what tells whether a directory is still the same: names, sizes, times, inodes. Raises `SolverError`."""
    rows = [
        (path, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        for path, info in _walk(root)
    ]
    return hashlib.sha256(repr((str(root), rows)).encode("utf-8", "surrogateescape")).hexdigest()


def directory_tar(root: Path) -> Iterator[bytes]:
    """Yield the tar; owners become root, links stay links. Raises `SolverError`."""
    return plain_parts(_changes(root))


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        yield from walk_tree(root)
    except OSError as error:
        raise SolverError(f"can't read {error.filename or root}: {error.strerror or error}") from error


def _changes(root: Path) -> Iterator[Change]:
    yield Change(path="", entry=Entry(type=FileType.DIRECTORY, mode=0o755))
    for path, info in _walk(root):
        mode, mtime = stat.S_IMODE(info.st_mode), int(info.st_mtime)
        if stat.S_ISDIR(info.st_mode):
            yield Change(path=path, entry=Entry(type=FileType.DIRECTORY, mode=mode, mtime=mtime))
        elif stat.S_ISREG(info.st_mode):
            entry = Entry(type=FileType.FILE, mode=mode, mtime=mtime, size=info.st_size)
            yield Change(path=path, entry=entry, content=Spooled(root / path, 0, info.st_size))
        elif stat.S_ISLNK(info.st_mode):
            target = os.readlink(root / path)
            yield Change(path=path, entry=Entry(type=FileType.SYMLINK, mode=0o777, mtime=mtime, target=target))
