# SPDX-License-Identifier: Apache-2.0
"""
A solved filesystem as `ImageFilesystem`: directories are listed when they are first looked into, and remembered.

Links are resolved here, inside the root: what the builder would follow is never left to it, and neither is `..`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, Protocol

from copacetic.errors import ImageError, SolverError
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.links import resolve

__all__ = ["BuilderFilesystem"]

_MAX_DEPTH = 2_048
"""More fit into no path that a kernel takes."""
_TYPES = (
    (1 << 31, FileType.DIRECTORY),
    (1 << 27, FileType.SYMLINK),
    (1 << 25, FileType.FIFO),
    (1 << 21, FileType.CHARACTER_DEVICE),
    (1 << 26, FileType.BLOCK_DEVICE),
)
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_SOCKET = 1 << 24
_ROOT = Entry(type=FileType.DIRECTORY, mode=0o755, implicit=True)


class Reader(Protocol):
    """What lists and reads, by canonical paths."""

    def list(self, path: bytes) -> Sequence[Any]: ...
    def read(self, path: bytes, size: int) -> bytes: ...


class BuilderFilesystem:
    """`ImageFilesystem` over a builder's answers, which are as hostile as the image."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._listed: dict[str, dict[str, Entry]] = {}
        self._lock = Lock()

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        return self._entry(self.resolve(path, follow=follow))

    def resolve(self, path: str, *, follow: bool = True) -> str:
        return resolve(path, self._target, follow=follow)

    def _target(self, canonical: str) -> str | None:
        entry = self._entry(canonical)
        return entry.target if entry is not None and entry.type is FileType.SYMLINK else None

    def read(self, path: str, *, limit: int) -> bytes:
        canonical = self.resolve(path)
        entry = self._entry(canonical)
        if entry is None or entry.type is not FileType.FILE:
            raise FileNotFoundError(path)
        if entry.size > limit:
            raise ImageError(f"{path} has {entry.size} bytes, the limit is {limit}")
        data = self._reader.read(_encode(canonical), entry.size)
        if len(data) != entry.size:
            raise SolverError(f"{path} has {entry.size} bytes, and the builder returned {len(data)}")
        return data

    def iterdir(self, path: str) -> tuple[str, ...]:
        canonical = self.resolve(path)
        entry = self._entry(canonical)
        if entry is None or entry.type is not FileType.DIRECTORY:
            return ()
        return tuple(sorted(self._list(canonical)))

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        start = self.resolve(path)
        pending = [f"{start}/{name}" if start else name for name in reversed(self.iterdir(start))]
        while pending:
            one = pending.pop()
            entry = self._entry(one)
            if entry is None:
                continue
            yield one, entry
            if entry.type is FileType.DIRECTORY:
                if one.count("/") > _MAX_DEPTH:
                    raise ImageError(f"directories are nested too deep: {one[:200]}")
                pending.extend(f"{one}/{name}" for name in sorted(self._list(one), reverse=True))

    def layer_of(self, path: str) -> int | None:
        """Builders don't say."""
        return None

    def _entry(self, canonical: str) -> Entry | None:
        """Return what is at a canonical path; only what a directory lists is ever looked into."""
        found, at = _ROOT, ""
        for name in canonical.split("/") if canonical else ():
            if found.type is not FileType.DIRECTORY:
                return None
            below = self._list(at).get(name)
            if below is None:
                return None
            found, at = below, f"{at}/{name}" if at else name
        return found

    def _list(self, canonical: str) -> dict[str, Entry]:
        with self._lock:
            known = self._listed.get(canonical)
        if known is None:
            known = {}
            for status in self._reader.list(_encode(canonical)):
                name = status.path.decode("utf-8", "surrogateescape").rpartition("/")[2]
                if name in {"", ".", ".."} or "\0" in name or status.mode & _SOCKET:
                    continue
                known[name] = _convert(status)
            with self._lock:
                self._listed[canonical] = known
        return known


def _encode(canonical: str) -> bytes:
    return b"/" + canonical.encode("utf-8", "surrogateescape")


def _convert(status: Any) -> Entry:
    kind = next((kind for bit, kind in _TYPES if status.mode & bit), FileType.FILE)
    mode = status.mode & 0o777 | sum(native for bit, native in _SPECIAL if status.mode & bit)
    if status.size < 0:
        raise SolverError(f"the builder says that {status.path[:100]!r} has {status.size} bytes")
    return Entry(
        type=kind,
        mode=mode,
        uid=status.uid,
        gid=status.gid,
        size=status.size if kind is FileType.FILE else 0,
        mtime=status.mtime // 1_000_000_000,
        target=status.linkname.decode("utf-8", "surrogateescape") if kind is FileType.SYMLINK else "",
        device=(status.devmajor, status.devminor),
        xattrs=dict(status.xattrs),
    )
