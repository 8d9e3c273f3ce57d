# SPDX-License-Identifier: Apache-2.0
"""
From a layer directory to a layer: a plain tar, sorted, with whiteouts.

Device nodes and sockets are left out, and attributes that belong to this machine. Twice packed gives the same bytes,
whichever user's worker does it.
"""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from copacetic.errors import StorageError, VerificationError
from copacetic.oci.change import Change, Spooled
from copacetic.oci.filesystem import Entry, FileType, kind_of
from copacetic.oci.layerwriter import plain_parts
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.metadata import Owners
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import is_whiteout, join, list_at, lstat_at

__all__ = ["run"]

_PIECE = 1 << 18


def run(_channel: Channel, request: Message, fds: Sequence[int]) -> Message:
    """
    Write the directory `layer` to the open file. Returns its `digest`, `size`, and the number of `entries`.

    It may have `limit` bytes, which is also what stops the holes of a file from becoming a disk full of zeros.
    """
    layer = os.open(request["layer"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Paths in the changes are relative to it.
    os.fchdir(layer)
    counted = _Counted(_changes(layer, Owners(single=request["single"])))
    writer = _Writer(fds[0])
    writer.start()
    size = 0
    try:
        for part in _in_pieces(plain_parts(counted)):
            size += len(part)
            if size > request["limit"]:
                raise RefusalError("image", f"it has more than {request['limit']} bytes")
            writer.pieces.put(part)
            if writer.failure is not None:
                break
    except StorageError as error:
        raise RefusalError("storage", str(error)) from error
    except VerificationError as error:
        raise RefusalError("result", str(error)) from error
    finally:
        writer.pieces.put(b"")
        writer.join()
    if writer.failure is not None:
        raise writer.failure
    return {"digest": writer.hasher.hexdigest(), "size": writer.size, "entries": counted.count}


class _Writer(threading.Thread):
    """Hashes and writes what comes, until nothing comes, beside the thread that reads files and makes headers."""

    def __init__(self, handle: int) -> None:
        super().__init__(daemon=True)
        self.pieces: queue.Queue[bytes] = queue.Queue(maxsize=16)
        self.hasher = hashlib.sha256()
        self.size = 0
        self.failure: OSError | None = None
        self._handle = handle

    def run(self) -> None:
        while piece := self.pieces.get():
            if self.failure is not None:
                continue
            self.hasher.update(piece)
            self.size += len(piece)
            view = memoryview(piece)
            try:
                while view:
                    view = view[os.write(self._handle, view) :]
            except OSError as error:
                self.failure = error


def _in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Gather headers and small files: every write and every digest has its price."""
    gathered: list[bytes] = []
    size = 0
    for part in parts:
        gathered.append(part)
        size += len(part)
        if size >= _PIECE:
            yield b"".join(gathered)
            gathered.clear()
            size = 0
    yield b"".join(gathered)


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
        kind = kind_of(info.st_mode)
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
        pending.extend(join(path, name) for name in sorted((name for name, _ in list_at(layer, path)), reverse=True))
