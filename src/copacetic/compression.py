# SPDX-License-Identifier: Apache-2.0
"""
Streams in and out of gzip, zstd, xz, lzma and bzip2: bounded, and with the fastest library for each.

Decompression never yields more than its limit: a bomb ends in an error of the caller's choosing.
Concatenated gzip members, zstd frames and xz streams are one stream, as the formats say; there may be as many as
their size is worth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, Protocol

Format = Literal["none", "gzip", "zstd", "xz", "lzma", "bzip2"]
"""lzma is what xz had before; nothing at its beginning tells it from other bytes."""

CHUNK = 1 << 18
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_XZ_MEMORY_LIMIT = 192 * 1024 * 1024
"""`xz -9` takes 65 MiB."""
_ZSTD_MAX_WINDOW = 128 * 1024 * 1024
_ZSTD_PIECE = 512
_NO_PADDING = re.compile(rb"[^\0]")
_MEMBER_START = 512
"""Bytes that a new member is given first: what it leaves is copied, so many small ones would copy everything often."""
_MEMBERS, _BYTES_PER_MEMBER = 10_000, 32
"""Members that any stream may have, and stored bytes for each more; those of archives with an index have hundreds."""


class DecompressionError(ValueError):
    """The stream is broken or truncated; callers translate it into an error that names the file."""


class DecompressionLimitError(DecompressionError):
    """The stream holds more than it may."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Decoder(Protocol):
    """The part that zlib's, lzma's and bz2's decompression objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def detect(start: bytes) -> Format:
    """Tell the format from the first bytes (6 are enough)."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    # A zstd stream may begin with a frame to be skipped (RFC 8878, 3.1.2), as pzstd's do.
    if start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F:
        return "zstd"
    return "none"


class DecompressedReader:
    """
    Reads the plain bytes of a compressed stream.

    `read` raises `DecompressionError` when the stream is broken or truncated, and `DecompressionLimitError` when it
    has more than `limit` bytes.
    """

    def __init__(self, source: _Readable, format: Format | None = None, *, limit: int) -> None:  # noqa: A002
        self._source = source
        self._pending = b""
        self._at = 0
        """Where what was not yet given to a decoder begins."""
        self._piece = CHUNK
        self._members = 1
        self._received = 0
        if format is None:
            while len(self._pending) < 6 and (part := self._receive()):
                self._pending += part
            format = detect(self._pending)  # noqa: A001
        self.format: Format = format
        self._new = _decoder_factory(format)
        self._decoder = self._new() if self._new else None
        self._left = limit
        self._limit = limit

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, b"" at the end."""
        data = self._plain(size) if self._decoder is None else self._decoded(size)
        self._left -= len(data)
        if self._left < 0:
            raise DecompressionLimitError(f"more than {self._limit} bytes")
        return data

    def _plain(self, size: int) -> bytes:
        if self._at == len(self._pending):
            return self._source.read(size)
        data = self._pending[self._at : self._at + size]
        self._at += len(data)
        return data

    def _decoded(self, size: int) -> bytes:
        while True:
            decoder = self._decoder
            assert decoder is not None
            if decoder.eof:
                if not self._skip_padding():
                    return b""
                self._decoder = decoder = self._next_member()
            try:
                data = self._feed(decoder, size)
            except DecompressionError:
                raise
            except Exception as error:
                raise DecompressionError(f"broken {self.format} stream: {error}") from error
            if decoder.eof:
                self._at -= len(decoder.unused_data)
            if data:
                return data

    def _receive(self) -> bytes:
        data = self._source.read(CHUNK)
        self._received += len(data)
        return data

    def _next_member(self) -> _Decoder:
        assert self._new is not None
        self._members += 1
        if self._members > _MEMBERS + self._received // _BYTES_PER_MEMBER:
            raise DecompressionLimitError(f"more than {self._members - 1} {self.format} streams one after the other")
        self._piece = _MEMBER_START
        decoder: _Decoder = self._new()
        return decoder

    def _skip_padding(self) -> bool:
        """Between members only zeros may stand, as tape blocks leave them; tell whether another member follows."""
        while True:
            found = _NO_PADDING.search(self._pending, self._at)
            if found is not None:
                self._at = found.start()
                return True
            self._pending, self._at = self._receive(), 0
            if not self._pending:
                return False

    def _feed(self, decoder: _Decoder, size: int) -> bytes:
        if tail := getattr(decoder, "unconsumed_tail", b""):
            return decoder.decompress(tail, size)
        if getattr(decoder, "needs_input", None) is False:
            return decoder.decompress(b"", size)
        if self._at == len(self._pending):
            self._pending, self._at = self._receive(), 0
        piece = self._pending[self._at : self._at + self._piece]
        self._at += len(piece)
        self._piece = min(CHUNK, 4 * self._piece)
        data = decoder.decompress(piece, size)
        if not (piece or data or decoder.eof):
            raise DecompressionError(f"truncated {self.format} stream")
        return data


class _ZstdDecoder:
    """Gives `zstandard`'s streaming object the shape of the others'."""

    def __init__(self, decompressor: Any) -> None:
        self._object = decompressor.decompressobj()
        self._ready = memoryview(b"")
        self._input = b""

    @property
    def eof(self) -> bool:
        return self._object.eof and not self._ready

    @property
    def unused_data(self) -> bytes:
        unused: bytes = self._object.unused_data + self._input
        return unused

    @property
    def needs_input(self) -> bool:
        return not self._ready and not self._input

    def decompress(self, data: bytes, max_length: int) -> bytes:
        # The library has no limit for the output of one call, and a block of 4 bytes can stand for 128 KiB: only
        # little input at a time bounds what is held.
        self._input += data
        at = 0
        while not self._ready and at < len(self._input) and not self._object.eof:
            self._ready = memoryview(self._object.decompress(self._input[at : at + _ZSTD_PIECE]))
            at += _ZSTD_PIECE
        self._input = self._input[at:]
        out, self._ready = bytes(self._ready[:max_length]), self._ready[max_length:]
        return out


def _decoder_factory(name: Format) -> Callable[[], Any] | None:
    if name == "gzip":
        from isal import isal_zlib

        return lambda: isal_zlib.decompressobj(31)
    if name == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_LIMIT)
    if name == "lzma":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_XZ_MEMORY_LIMIT)
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    if name == "zstd":
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
        return lambda: _ZstdDecoder(decompressor)
    return None


class _Bytes:
    """Bytes as a stream."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._at = 0

    def read(self, size: int, /) -> bytes:
        part = bytes(self._view[self._at : self._at + size])
        self._at += len(part)
        return part


def decompress(data: bytes, *, limit: int, format: Format | None = None) -> bytes:  # noqa: A002
    """Decompress all of `data` at once; the same errors as `DecompressedReader`."""
    reader = DecompressedReader(_Bytes(data), format, limit=limit)
    parts = []
    while part := reader.read(CHUNK * 4):
        parts.append(part)
    return b"".join(parts)
