# SPDX-License-Identifier: Apache-2.0
"""
apk-tools 3's binary container (apk-v3(5)), which holds its indexes and packages: values, blocks, signatures.

    file    = head, "ADB.", u32 schema, block...        head: compression, or nothing
    block   = u32 (type << 30 | size with these bytes); each starts on 8 bytes: one ADB, SIG..., DATA...
    value   = type in the high 4 bits, the rest is the number itself or an offset in the ADB block

All numbers are little endian. Every offset, count and depth is checked before it is used.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence

from msgspec import Struct

from copacetic.compression import DecompressionError, decompress

__all__ = ["INDEX_SCHEMA", "PACKAGE_SCHEMA", "Adb", "AdbError", "AdbSignature", "Value"]

PACKAGE_SCHEMA = int.from_bytes(b"pckg", "little")
INDEX_SCHEMA = int.from_bytes(b"indx", "little")
PLAIN_LIMIT = 1024 * 1024 * 1024
RATIO = 16
SIZE_FLOOR = 64 * 1024 * 1024
"""All of a container is held: it unpacks to at most this much more than RATIO times its size."""
MAX_BLOCKS = 250_000
MAX_SLOTS = 1_000_000
MAX_READ = 8_000_000
"""Slots read altogether, 16 bytes counting as one: lists and texts may be shared, so that few bytes stand for many."""
_BYTES_OF_SLOT = 16
_ADB, _SIG, _DATA, _EXTENDED = range(4)
_HEAD = 8
_HASHES = {3: "sha256", 4: "sha512"}


class AdbError(ValueError):
    """The bytes are no such container, or a hostile one."""


class AdbSignature(Struct, frozen=True):
    """One SIG block."""

    key_id: bytes
    signature: bytes
    signed: bytes
    """The bytes that were signed: with RSA over their SHA-512."""


class Value(Struct, frozen=True):
    """A value in a container; absent ones are empty."""

    adb: Adb
    word: int = 0

    @property
    def present(self) -> bool:
        return self.word != 0

    def number(self) -> int:
        kind, rest = self.word >> 28, self.word & 0x0FFFFFFF
        if kind == 1:
            return rest
        if kind in {2, 3}:
            size = 4 if kind == 2 else 8
            return int.from_bytes(self.adb.slice(rest, size), "little")
        if kind == 0:
            return 0
        raise AdbError(f"a value of the type {kind} where a number should be")

    def blob(self) -> bytes:
        kind, rest = self.word >> 28, self.word & 0x0FFFFFFF
        if kind == 0:
            return b""
        size = {8: 1, 9: 2, 10: 4}.get(kind)
        if size is None:
            raise AdbError(f"a value of the type {kind} where bytes should be")
        length = int.from_bytes(self.adb.slice(rest, size), "little")
        self.adb.spend(length // _BYTES_OF_SLOT)
        return self.adb.slice(rest + size, length)

    def text(self) -> str:
        """Return a string; line ends, which no line of a database could hold, become blanks."""
        return self.blob().decode("utf-8", "surrogateescape").replace("\n", " ").replace("\r", " ")

    def items(self) -> list[Value]:
        """Return an array's items, or an object's slots from the first on."""
        kind, rest = self.word >> 28, self.word & 0x0FFFFFFF
        if kind == 0:
            return []
        if kind not in {13, 14}:
            raise AdbError(f"a value of the type {kind} where a list should be")
        count = int.from_bytes(self.adb.slice(rest, 4), "little")
        if not 1 <= count <= MAX_SLOTS:
            raise AdbError(f"a list of {count} slots")
        self.adb.spend(count)
        words = struct.unpack(f"<{count}I", self.adb.slice(rest, 4 * count))
        return [Value(self.adb, word) for word in words[1:]]

    def slots(self, names: Sequence[str]) -> dict[str, Value]:
        """Return an object's slots by name, absent ones too; those that nobody knows are left out."""
        values = self.items()
        return {name: values[n] if n < len(values) else Value(self.adb) for n, name in enumerate(names)}


class Adb:
    """A container, its blocks told apart. Raises `AdbError`."""

    def __init__(self, data: bytes, *, schema: int, limit: int = PLAIN_LIMIT) -> None:
        plain = _plain(data, min(limit, RATIO * len(data) + SIZE_FLOOR))
        if plain[:4] != b"ADB.":
            raise AdbError("no container of apk 3")
        if int.from_bytes(plain[4:8], "little") != schema:
            raise AdbError(f"a container of the schema {plain[4:8]!r}")
        self._schema = plain[4:8]
        self._left = MAX_READ
        self.payload: bytes | memoryview = b""
        """The ADB block."""
        self.data: list[tuple[int, int, memoryview]] = []
        """Contents of files by the numbers of directory and file, both from 1, in the container's order."""
        signatures: list[bytes] = []
        for number, (kind, body) in enumerate(_blocks(memoryview(plain))):
            if (kind == _ADB) != (number == 0) or (kind == _SIG and self.data):
                raise AdbError("blocks in a wrong order")
            if kind == _ADB:
                self.payload = body
            elif kind == _SIG:
                signatures.append(bytes(body))
            elif kind == _DATA and len(body) >= _HEAD:
                directory, file = struct.unpack("<II", body[:_HEAD])
                self.data.append((directory, file, body[_HEAD:]))
            else:
                raise AdbError(f"a block of the type {kind}")
        if len(self.payload) < _HEAD or self.payload[0] != 0:
            raise AdbError("a version that is not known")
        self.sha256 = hashlib.sha256(self.payload).digest()
        self.signatures = tuple(self._signature(body) for body in signatures if body[:1] == b"\0")
        """Those of a known version."""

    @property
    def root(self) -> Value:
        return Value(self, int.from_bytes(self.payload[4:8], "little"))

    def spend(self, slots: int) -> None:
        """Count what is read."""
        self._left -= slots
        if self._left < 0:
            raise AdbError(f"more than {MAX_READ} slots")

    def slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.payload):
            raise AdbError(f"an offset beyond the end: {offset}")
        return bytes(self.payload[offset : offset + size])

    def _signature(self, body: bytes) -> AdbSignature:
        name = _HASHES.get(body[1] if len(body) > 18 else -1)
        if name is None:
            raise AdbError("a signature of an unknown kind")
        digest = hashlib.new(name, self.payload).digest()
        return AdbSignature(body[2:18], body[18:], self._schema + body[:18] + digest)


def _plain(data: bytes, limit: int) -> bytes:
    """Undo the compression that the head names."""
    try:
        if data[:4] == b"ADBd":
            return _inflate(data[4:], limit)
        if data[:4] == b"ADBc":
            kind, body = data[4:5], data[6:]
            if kind == b"\0":
                return body
            if kind == b"\1":
                return _inflate(body, limit)
            if kind == b"\2":
                return decompress(body, limit=limit, format="zstd")
            raise AdbError(f"compressed in an unknown way: {kind!r}")
    except DecompressionError as error:
        raise AdbError(str(error)) from error
    return data


def _inflate(data: bytes, limit: int) -> bytes:
    """Undo raw deflate."""
    from isal import isal_zlib

    decoder = isal_zlib.decompressobj(-15)
    try:
        plain: bytes = decoder.decompress(data, limit)
    except Exception as error:
        raise AdbError(f"a broken deflate stream: {error}") from error
    if not decoder.eof:
        raise AdbError(f"a truncated deflate stream, or one of more than {limit} bytes")
    if decoder.unused_data:
        raise AdbError("bytes after the end")
    return plain


def _blocks(plain: memoryview) -> Iterator[tuple[int, memoryview]]:
    at, count = _HEAD, 0
    while at < len(plain):
        count += 1
        head, start = _word(plain, at), 4
        kind, size = head >> 30, head & 0x3FFFFFFF
        if kind == _EXTENDED:
            kind, start = size, 16
            size = int.from_bytes(plain[at + 8 : at + 16], "little")
        if size < start or at + size > len(plain) or count > MAX_BLOCKS:
            raise AdbError(f"a block of {size} bytes at byte {at}")
        yield kind, plain[at + start : at + size]
        at += (size + 7) & ~7
    if not count:
        raise AdbError("no blocks")


def _word(plain: memoryview, at: int) -> int:
    if at + 4 > len(plain):
        raise AdbError("truncated")
    return int.from_bytes(plain[at : at + 4], "little")
