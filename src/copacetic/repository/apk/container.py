# SPDX-License-Identifier: Apache-2.0
"""
Concatenated gzip members, of which a package and an index of apk v2 consist.

A signature covers the compressed bytes of what follows it, and a package's identity is the digest of one compressed
member: so members are told apart and their compressed bytes are hashed while they are inflated. Each member holds a
piece of one tar stream that ends on a block; only the last one has the end marker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

from copacetic.compression import DecompressionError, DecompressionLimitError
from copacetic.oci.tarstream import HostileTarError, TarEntry, TarReader

__all__ = ["BytesReader", "GzipMember", "StrictTarReader", "iter_members", "read_entries"]

MAX_MEMBERS = 16
CHUNK = 1 << 18
_MAGIC = b"\x1f\x8b"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class GzipMember:
    """
    One member of a stream: `read` gives its plain bytes, b"" at the end.

    Raises `DecompressionError` when it is broken or truncated, `DecompressionLimitError` beyond the limit.
    """

    def __init__(self, source: _Source, *, limit: int, digests: bool = True) -> None:
        from isal import isal_zlib

        self.offset = source.consumed
        """Of the member's first compressed byte in the stream."""
        self.size = 0
        """Compressed, as far as it was read."""
        self._source = source
        self._limit = limit
        self._left = limit
        self._decoder = isal_zlib.decompressobj(31)
        self._digests = digests
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    @property
    def sha1(self) -> bytes:
        """Of the compressed bytes."""
        return self._sha1.digest()

    @property
    def sha256(self) -> bytes:
        """Of the compressed bytes."""
        return self._sha256.digest()

    def read(self, size: int = CHUNK, /) -> bytes:
        while not self._decoder.eof:
            data = self._step(size)
            self._left -= len(data)
            if self._left < 0:
                raise DecompressionLimitError(f"more than {self._limit} bytes")
            if data:
                return data
        return b""

    def read_all(self) -> bytes:
        """Return the rest of the member."""
        parts = []
        while part := self.read():
            parts.append(part)
        return b"".join(parts)

    def _step(self, size: int) -> bytes:
        chunk: bytes = self._decoder.unconsumed_tail
        if not chunk:
            chunk = self._source.take()
        try:
            data: bytes = self._decoder.decompress(chunk, size)
        except Exception as error:
            raise DecompressionError(f"broken gzip member: {error}") from error
        rest = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
        used = chunk[: len(chunk) - len(rest)]
        if self._digests:
            self._sha1.update(used)
            self._sha256.update(used)
        self.size += len(used)
        self._source.consumed += len(used)
        if self._decoder.eof:
            self._source.give_back(rest)
        elif not chunk and not data:
            raise DecompressionError("truncated gzip member")
        return data


class _Source:
    """A stream with what one member left for the next."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._pending = b""
        self.consumed = 0

    def take(self) -> bytes:
        chunk, self._pending = self._pending, b""
        return chunk or self._stream.read(CHUNK)

    def give_back(self, data: bytes) -> None:
        self._pending = data

    def at_end(self) -> bool:
        self._pending = self._pending or self._stream.read(CHUNK)
        return not self._pending

    def starts_member(self) -> bool:
        while len(self._pending) < len(_MAGIC) and (more := self._stream.read(CHUNK)):
            self._pending += more
        return self._pending.startswith(_MAGIC)


def iter_members(stream: _Readable, *, limit: int, digests: bool = True) -> Iterator[GzipMember]:
    """
    Yield the members of a stream, each to be read before the next is asked for; what is left of one is skipped.

    `limit` is for the plain bytes of each; without `digests` those of a member say nothing. Raises
    `DecompressionError`, also for bytes that belong to no member.
    """
    source = _Source(stream)
    count = 0
    while not source.at_end():
        if not source.starts_member():
            raise DecompressionError(f"no gzip member at byte {source.consumed}")
        count += 1
        if count > MAX_MEMBERS:
            raise DecompressionLimitError(f"more than {MAX_MEMBERS} gzip members")
        member = GzipMember(source, limit=limit, digests=digests)
        yield member
        while member.read():
            pass


class StrictTarReader(TarReader):
    """
    A tar whose names are taken as they are: what apk would not install under exactly that name is an error.

    Raises `HostileTarError` for an absolute name, for `.` and `..`, and for control characters. Names that start
    with a dot are apk's own (`.PKGINFO`), and come out as they are.
    """

    def _finish(self, entry: TarEntry) -> None:
        for name in (entry.path, entry.linkname if entry.type == "1" else ""):
            # Some writers begin with the root itself, which apk passes over as any name with a dot in front.
            parts = name.removesuffix("/").split("/") if name not in {"", ".", "./"} else []
            if any(part in {"", ".", ".."} for part in parts):
                raise HostileTarError(f"a name that is not relative and plain: {name[:200]!r}")
            if any(ord(char) < 0x20 or ord(char) == 0x7F for char in name):
                raise HostileTarError(f"a name with control characters: {name[:200]!r}")
        super()._finish(entry)


def read_entries(data: bytes) -> Iterator[tuple[TarEntry, bytes]]:
    """Yield the entries of a small piece of the tar stream with their content. Raises `TarError`."""
    reader = StrictTarReader(BytesReader(data))
    for entry in reader:
        yield entry, b"".join(bytes(piece) for piece in reader.content())


class BytesReader:
    """Bytes as a stream."""

    def __init__(self, data: bytes) -> None:
        self._data: Any = memoryview(data)

    def read(self, size: int, /) -> bytes:
        part, self._data = bytes(self._data[:size]), self._data[size:]
        return part
