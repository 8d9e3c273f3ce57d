# SPDX-License-Identifier: Apache-2.0
"""
From a layer directory to a layer: a plain tar, sorted, with whiteouts.

Device nodes and sockets are left out, and attributes that belong to this machine. Twice packed gives the same bytes,
whichever user's worker does it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from copacetic.oci.change import Change, Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.layerwriter import write_layer
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.kinds import kind_of
from copacetic.worker.inside.metadata import Owners
from copacetic.worker.inside.stack import is_whiteout, join, lstat_at, scan_at

__all__ = ["run"]


def run(_channel: Channel, request: Message, _fds: Sequence[int]) -> Message:
    """Write the directory `layer` to the file `target`. Returns its `digest`, `size`, and the number of `entries`."""
    layer = os.open(request["layer"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Paths in the changes are relative to it.
    os.fchdir(layer)
    counted = _Counted(_changes(layer, Owners(single=request["single"])))
    written = write_layer(counted, Path(request["target"]), compression="none")
    return {"digest": written.digest.encoded, "size": written.size, "entries": counted.count}


class _Counted:
    def __init__(self, changes: Iterator[Change]) -> None:
        self._changes = changes
        self.count = 0

    def __iter__(self) -> Iterator[Change]:
        for change in self._changes:
            self.count += 1
            yield change


def _changes(layer: int, owners: Owners) -> Iterator[Change]:
    names: dict[tuple[int, int], str] = {}
    for path, info in _walk(layer):
        if is_whiteout(info):
            yield Change(path=path, entry=None)
            continue
        kind = kind_of(info)
        if kind is None or "device" in kind.value:
            continue
        meta = owners.read(layer, path, info)
        entry = Entry(
            type=kind,
            mode=meta.mode,
            uid=meta.uid,
            gid=meta.gid,
            mtime=info.st_mtime_ns // 1_000_000_000,
            target=os.readlink(path, dir_fd=layer) if kind is FileType.SYMLINK else "",
            xattrs=meta.xattrs,
        )
        if kind is not FileType.FILE:
            yield Change(path=path, entry=entry)
            continue
        first = names.setdefault((info.st_dev, info.st_ino), path) if info.st_nlink > 1 else path
        if first != path:
            yield Change(path=path, entry=entry, hardlink=first)
        else:
            yield Change(path=path, entry=entry, content=Spooled(Path(path), 0, info.st_size))


def _walk(layer: int) -> Iterator[tuple[str, os.stat_result]]:
    """Everything, sorted by whole paths: a directory before what is in it."""
    pending = [""]
    while pending:
        path = pending.pop()
        if path:
            info = lstat_at(layer, path)
            assert info is not None
            yield path, info
            if not stat.S_ISDIR(info.st_mode):
                continue
        pending.extend(join(path, name) for name in sorted((e.name for e in scan_at(layer, path)), reverse=True))
