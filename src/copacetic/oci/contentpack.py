# SPDX-License-Identifier: Apache-2.0
"""
What is kept of a layer's files: one entry of the cache for each set of rules, in which contents lie by their SHA-256.

Nothing is read before it is asked for, and nothing is believed that hasn't the digest that it goes by. An entry for
each file would be a thousand small ones for a layer with dpkg's records, made and looked for one by one.

The format: the contents one after the other, a table (msgpack: digest → offset, size), the table's size in 8 bytes
(big-endian), and the first bytes of its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from copacetic.cache import Bucket

__all__ = ["ContentPack", "ContentSink", "MemoryPack", "PackWriter"]

_END = struct.Struct(">Q16s")
_Table = Mapping[bytes, tuple[int, int]]


class ContentSink(Protocol):
    """Takes the contents that are kept, one after the other."""

    def write(self, piece: memoryview, /) -> None:
        """Take the next bytes of a file."""
        ...

    def end(self, sha256: bytes) -> None:
        """A file is complete."""
        ...


class MemoryPack(dict[bytes, bytes]):
    """A `ContentSink` that has the contents by their SHA-256."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: memoryview, /) -> None:
        self._pieces.append(bytes(piece))

    def end(self, sha256: bytes) -> None:
        self[sha256] = b"".join(self._pieces)
        self._pieces = []


class PackWriter:
    """A `ContentSink` that writes an entry."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = self._at = 0
        self._table: dict[bytes, tuple[int, int]] = {}

    def write(self, piece: memoryview, /) -> None:
        self._file.write(piece)
        self._at += len(piece)

    def end(self, sha256: bytes) -> None:
        self._table[sha256] = (self._start, self._at - self._start)
        self._start = self._at

    def finish(self) -> None:
        """Write what makes it a pack."""
        table = msgspec.msgpack.encode(self._table)
        self._file.write(table)
        self._file.write(_END.pack(len(table), _sum(table)))


class ContentPack:
    """
    An entry of the cache, as it was found; what is in it may vanish at any time.

    One that turns out to be damaged is thrown away, so that the layer's contents are kept anew when it is opened again.
    """

    def __init__(self, bucket: Bucket, key: str, path: Path) -> None:
        self._bucket = bucket
        self._key = key
        self._path = path
        self._table: _Table | None = None

    @classmethod
    def find(cls, bucket: Bucket, key: str) -> ContentPack | None:
        """Return the entry, marked as used, or None when it isn't there."""
        path = bucket.path(key)
        return cls(bucket, key, path) if path is not None else None

    @property
    def size(self) -> int:
        """In bytes on disk."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def get(self, sha256: bytes) -> bytes | None:
        """Return the content with this digest, or None when the pack hasn't got it."""
        if self._table is not None and sha256 not in self._table:
            return None
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            if self._table is None:
                self._table = _read_table(handle)
            place = self._table.get(sha256)
            if place is None:
                return None
            data = os.pread(handle, place[1], place[0])
            if hashlib.sha256(data).digest() == sha256:
                return data
        except (OSError, msgspec.DecodeError):
            pass
        finally:
            os.close(handle)
        self._table = {}
        self._bucket.discard(self._key)
        return None


def _read_table(handle: int) -> _Table:
    """Raises `OSError` or `msgspec.DecodeError`."""
    end = os.fstat(handle).st_size - _END.size
    if end < 0:
        raise msgspec.DecodeError("too short")
    size, digest = _END.unpack(os.pread(handle, _END.size, end))
    table = os.pread(handle, size, end - size) if size <= end else b""
    if _sum(table) != digest:
        raise msgspec.DecodeError("another table than was written")
    return msgspec.msgpack.decode(table, type=dict[bytes, tuple[int, int]])


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]
