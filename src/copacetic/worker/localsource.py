# SPDX-License-Identifier: Apache-2.0
"""A directory of the caller's as the plain tar of a layer."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from copacetic.errors import SolverError
from copacetic.llb.graph import SourceOp
from copacetic.localtree import walk_tree
from copacetic.oci.change import Change, Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.layerwriter import plain_parts

__all__ = ["directory_state", "directory_tar", "include_patterns"]


def include_patterns(op: SourceOp) -> tuple[str, ...]:
    """Return what a `local` source takes of its directory; nothing means everything."""
    return tuple(json.loads(dict(op.attributes).get("local.includepattern", "[]")))


def directory_state(root: Path, include: Sequence[str]) -> str:
    """Digest what tells whether a directory is still the same: names, sizes, times, inodes. Raises `SolverError`."""
    rows = [
        (path, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        for path, info in _walk(root, include)
    ]
    return hashlib.sha256(repr((str(root), rows)).encode("utf-8", "surrogateescape")).hexdigest()


def directory_tar(root: Path, include: Sequence[str]) -> Iterator[bytes]:
    """Yield the tar; owners become root, links stay links. Raises `SolverError`."""
    return plain_parts(_changes(root, include))


def _walk(root: Path, include: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        yield from walk_tree(root, include)
    except OSError as error:
        raise SolverError(f"can't read {error.filename or root}: {error.strerror or error}") from error


def _changes(root: Path, include: Sequence[str]) -> Iterator[Change]:
    yield Change(path="", entry=Entry(type=FileType.DIRECTORY, mode=0o755))
    for path, info in _walk(root, include):
        mode, mtime = stat.S_IMODE(info.st_mode), int(info.st_mtime)
        if stat.S_ISDIR(info.st_mode):
            yield Change(path=path, entry=Entry(type=FileType.DIRECTORY, mode=mode, mtime=mtime))
        elif stat.S_ISREG(info.st_mode):
            entry = Entry(type=FileType.FILE, mode=mode, mtime=mtime, size=info.st_size)
            yield Change(path=path, entry=entry, content=Spooled(root / path, 0, info.st_size))
        elif stat.S_ISLNK(info.st_mode):
            target = os.readlink(root / path)
            yield Change(path=path, entry=Entry(type=FileType.SYMLINK, mode=0o777, mtime=mtime, target=target))
