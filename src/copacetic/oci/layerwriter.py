# SPDX-License-Identifier: Apache-2.0
"""
Changes in, one layer out: a tar with whiteouts, compressed, with the digests of both.

Deterministic: the same changes give the same bytes on any machine, whatever the number of threads. Headers are
ustar; a pax header comes only before an entry that needs it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from copacetic.budget import Slots
from copacetic.errors import StorageError, VerificationError, storage_errors
from copacetic.oci.change import RESERVED_PREFIX, Change, Spooled, is_reserved
from copacetic.oci.descriptor import Digest
from copacetic.oci.filesystem import TAR_TYPES

BLOCK = 512
_CHUNK = 1 << 20
_GZIP_LEVEL = 1
"""Of ISA-L: twelve times as fast as zlib's 6, for 4 points of size (docs/adr)."""
_ZSTD_LEVEL = 3
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_KINDS = {kind: letter.encode() for letter, kind in TAR_TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenLayer:
    """What a layer turned out to be."""

    digest: Digest
    size: int
    """Compressed, in bytes."""
    diff_id: Digest


class _Compressor(Protocol):
    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


def write_layer(changes: Iterable[Change], path: Path, processors: Slots, *, compression: str) -> WrittenLayer:
    """
    Write a layer file; `changes` come sorted. `compression` is none, gzip or zstd, done in these slots.

    Raises `StorageError` when the disk is full or a spooled payload is gone, and `VerificationError` for a name that
    whoever unpacks the layer would take for a whiteout.
    """
    with storage_errors(f"can't write the layer {path}"), path.open("wb") as file:
        out = _HashedFile(file)
        plain = _Plain(_compressor(compression, out, processors))
        for part in plain_parts(changes):
            plain.write(part)
        plain.finish()
    return WrittenLayer(
        digest=Digest("sha256", out.hash.hexdigest()),
        size=out.size,
        diff_id=Digest("sha256", plain.hash.hexdigest()),
    )


def plain_parts(changes: Iterable[Change]) -> Iterator[bytes]:
    """Yield the plain tar of changes in pieces. Raises as `write_layer` does, for spooled payloads."""
    for change in changes:
        yield from _member(change)
    yield bytes(2 * BLOCK)


class _HashedFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)
        self._file.write(data)


class _Plain:
    """Gathers the tar into chunks of one size, so that compression doesn't depend on how it was written."""

    def __init__(self, compressor: _Compressor) -> None:
        self._compressor = compressor
        self._buffer = bytearray()
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _CHUNK:
            self._emit(bytes(memoryview(self._buffer)[:_CHUNK]))
            del self._buffer[:_CHUNK]

    def finish(self) -> None:
        if self._buffer:
            self._emit(bytes(self._buffer))
        self._compressor.finish()

    def _emit(self, chunk: bytes) -> None:
        self.hash.update(chunk)
        self._compressor.write(chunk)


class _Stored:
    def __init__(self, out: _HashedFile) -> None:
        self.write = out.write

    def finish(self) -> None:
        pass


class _Gzip:
    """One gzip member of independently deflated chunks, which threads can do side by side."""

    def __init__(self, out: _HashedFile, processors: Slots) -> None:
        from isal import isal_zlib

        self._zlib = isal_zlib
        self._out = out
        self._processors = processors
        self._crc = 0
        self._size = 0
        self._pending: deque[Future[bytes]] = deque()
        out.write(_GZIP_HEADER)

    def write(self, data: bytes) -> None:
        self._pending.append(self._processors.submit(self._deflate, data))
        self._crc = self._zlib.crc32(data, self._crc)
        self._size += len(data)
        while len(self._pending) > 6:
            self._out.write(self._pending.popleft().result())

    def finish(self) -> None:
        while self._pending:
            self._out.write(self._pending.popleft().result())
        self._out.write(b"\x03\x00" + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _deflate(self, data: bytes) -> bytes:
        stream = self._zlib.compressobj(_GZIP_LEVEL, self._zlib.DEFLATED, -15)
        packed: bytes = stream.compress(data) + stream.flush(self._zlib.Z_FULL_FLUSH)
        return packed


class _Zstd:
    def __init__(self, out: _HashedFile) -> None:
        import zstandard

        self._out = out
        self._stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def write(self, data: bytes) -> None:
        self._out.write(self._stream.compress(data))

    def finish(self) -> None:
        self._out.write(self._stream.flush())


def _compressor(name: str, out: _HashedFile, processors: Slots) -> _Compressor:
    known: dict[str, Callable[[], _Compressor]] = {
        "none": lambda: _Stored(out),
        "gzip": lambda: _Gzip(out, processors),
        "zstd": lambda: _Zstd(out),
    }
    return known[name]()


def _member(change: Change) -> Iterator[bytes]:
    """Yield a change's header, content and padding."""
    entry = change.entry
    if is_reserved(change.path):
        raise VerificationError(f"{change.path!r} can't be in a layer: names with {RESERVED_PREFIX} take files away")
    if entry is None:
        folder, _, name = change.path.rpartition("/")
        path = f"{folder}/{RESERVED_PREFIX}{name}" if folder else f"{RESERVED_PREFIX}{name}"
        yield _header(path, b"0", mode=0, size=0, mtime=0)
        return
    kind = b"1" if change.hardlink else _KINDS[entry.type]
    size = 0
    if kind == b"0":
        content = change.content if change.content is not None else b""
        size = len(content) if isinstance(content, bytes) else content.size
    yield _header(
        change.path + "/" if kind == b"5" else change.path,
        kind,
        mode=entry.mode,
        size=size,
        mtime=entry.mtime,
        owner=(entry.uid, entry.gid),
        target=change.hardlink or entry.target,
        device=entry.device,
        xattrs={} if change.hardlink else dict(entry.xattrs),
    )
    if kind == b"0" and size:
        yield from _content(content)
        yield bytes(-size % BLOCK)


def _content(content: bytes | Spooled) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    handle = os.open(content.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at, end = content.offset, content.offset + content.size
        while at < end:
            part = os.pread(handle, min(_CHUNK, end - at), at)
            if not part:
                raise StorageError(f"the spooled payload {content.path} is shorter than it was")
            at += len(part)
            yield part
    finally:
        os.close(handle)


def read_content(content: bytes | Spooled) -> bytes:
    """Return a change's content whole. Raises `StorageError`."""
    if isinstance(content, bytes):
        return content
    with storage_errors(str(content.path)):
        return b"".join(_content(content))


def _header(
    path: str,
    kind: bytes,
    *,
    mode: int,
    size: int,
    mtime: int,
    owner: tuple[int, int] = (0, 0),
    target: str = "",
    device: tuple[int, int] = (0, 0),
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    records: dict[str, bytes] = {}
    name, prefix = _split(_encode(path), records)
    link = _encode(target)
    if len(link) > 100:
        records["linkpath"] = link
    for key, value, limit in (
        ("size", size, 8**11),
        ("uid", owner[0], 8**7),
        ("gid", owner[1], 8**7),
        ("mtime", mtime, 8**11),
    ):
        if not 0 <= value < limit:
            records[key] = str(value).encode()
    for key, data in (xattrs or {}).items():
        records[f"SCHILY.xattr.{key}"] = data
    numbers = (mode, owner[0] if "uid" not in records else 0, owner[1] if "gid" not in records else 0)
    block = _ustar(
        name, prefix, kind, numbers, size if "size" not in records else 0, max(0, mtime) % 8**11, link[:100], device
    )
    return _pax(records) + block if records else block


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _split(path: bytes, records: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Split a long path at a slash as ustar wants it, or put it into the pax records."""
    if len(path) <= 100:
        return path, b""
    at = path.find(b"/", len(path) - 101)
    if 0 < at <= 155 and at < len(path) - 1:
        return path[at + 1 :], path[:at]
    records["path"] = path
    return path[:100], b""


def _ustar(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    numbers: tuple[int, int, int],
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    mode, uid, gid = numbers
    block = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x",
            name,
            b"%07o" % mode,
            b"%07o" % uid,
            b"%07o" % gid,
            b"%011o" % size,
            b"%011o" % mtime,
            b" " * 8,
            kind,
            link,
            b"ustar\0",
            b"00",
            b"",
            b"",
            b"%07o" % device[0],
            b"%07o" % device[1],
            prefix,
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax(records: dict[str, bytes]) -> bytes:
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    head = _ustar(b"PaxHeaders/0", b"", b"x", (0o644, 0, 0), len(body), 0, b"", (0, 0))
    return head + body + bytes(-len(body) % BLOCK)


def _record(key: str, value: bytes) -> bytes:
    rest = b" " + _encode(key) + b"=" + value + b"\n"
    size = len(rest)
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    return b"%d" % size + rest
