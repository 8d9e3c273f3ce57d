# SPDX-License-Identifier: Apache-2.0
"""
The dynamic linker's cache, `etc/ld.so.cache`: a table from library names to paths.

Reads and writes the format `glibc-ld.so.cache1.1` as glibc's ldconfig does: since 2.33 with strings that share their
tails and a generator's name, before that without. Writing what was read gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cmp_to_key

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["CacheEntry", "LibraryCache"]

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_EXTENSION_MAGIC = 0xEAA42174
_GENERATOR, _HWCAPS = 0, 1
_LITTLE_ENDIAN = 2
_DIGITS = frozenset("0123456789")


class CacheEntry(Struct, frozen=True):
    """One library."""

    name: str
    path: str
    flags: int
    os_version: int = 0
    hwcap: int = 0


class LibraryCache(Struct, frozen=True):
    """The whole file."""

    entries: tuple[CacheEntry, ...]
    generator: str | None
    """Who wrote it; None in the format before glibc 2.33."""
    little_endian: bool = True

    @classmethod
    def parse(cls, data: bytes) -> LibraryCache:
        """Read a file. Raises `ValueError` for another format, or one with entries for special processors."""
        try:
            return cls._parse(data)
        except struct.error as error:
            raise ValueError("a truncated ld.so.cache") from error

    @classmethod
    def _parse(cls, data: bytes) -> LibraryCache:
        magic, count, _size, flags, extension = _HEADER.unpack_from(data)
        if magic != _MAGIC or flags not in (0, _LITTLE_ENDIAN):
            raise ValueError("an ld.so.cache in another format")
        entries: list[CacheEntry] = []
        for index in range(count):
            kind, key, value, os_version, hwcap = _ENTRY.unpack_from(data, _HEADER.size + index * _ENTRY.size)
            entries.append(CacheEntry(_string(data, key), _string(data, value), kind, os_version, hwcap))
        generator = None
        if extension:
            sections = _sections(data, extension)
            if _HWCAPS in sections:
                raise ValueError("an ld.so.cache with libraries for special processors")
            generator = sections.get(_GENERATOR, b"").decode("ascii")
        return cls(tuple(entries), generator, flags == _LITTLE_ENDIAN)

    def serialize(self) -> bytes:
        """Write the file."""
        start = _HEADER.size + len(self.entries) * _ENTRY.size
        if self.generator is None:
            offsets, strings = _plain_strings(self.entries, start)
        else:
            offsets, strings = _shared_strings(self.entries, start)
        table = b"".join(
            _ENTRY.pack(entry.flags, key, value, entry.os_version, entry.hwcap)
            for entry, (key, value) in zip(self.entries, offsets, strict=True)
        )
        end = start + len(strings)
        extension = end + -end % 4 if self.generator is not None else 0
        flags = _LITTLE_ENDIAN if self.little_endian else 0
        header = _HEADER.pack(_MAGIC, len(self.entries), len(strings), flags, extension)
        body = header + table + strings
        if self.generator is None:
            return body
        name = self.generator.encode("ascii")
        sections = struct.pack("<IIIIII", _EXTENSION_MAGIC, 1, _GENERATOR, 0, extension + 24, len(name))
        return body + bytes(-end % 4) + sections + name

    def with_entries(self, entries: Iterable[CacheEntry]) -> LibraryCache:
        """Return a cache of these, in ldconfig's order; those that it can't tell apart stay in theirs."""
        ordered = sorted(entries, key=cmp_to_key(_compare_entries))
        return replace(self, entries=tuple(ordered))


def _string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset)
    if end < 0:
        raise ValueError("a string without an end in ld.so.cache")
    return data[offset:end].decode("utf-8", "surrogateescape")


def _sections(data: bytes, offset: int) -> dict[int, bytes]:
    magic, count = struct.unpack_from("<II", data, offset)
    if magic != _EXTENSION_MAGIC or count > 16:
        raise ValueError("a broken extension of ld.so.cache")
    rows = [struct.unpack_from("<IIII", data, offset + 8 + 16 * index) for index in range(count)]
    return {tag: data[start : start + size] for tag, _flags, start, size in rows}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _plain_strings(entries: Iterable[CacheEntry], start: int) -> tuple[list[tuple[int, int]], bytes]:
    offsets: list[tuple[int, int]] = []
    strings = bytearray()
    for entry in entries:
        name, path = _encode(entry.name) + b"\0", _encode(entry.path) + b"\0"
        offsets.append((start + len(strings), start + len(strings) + len(name)))
        strings += name + path
    return offsets, bytes(strings)


def _shared_strings(entries: tuple[CacheEntry, ...], start: int) -> tuple[list[tuple[int, int]], bytes]:
    """Lay out each string once, by its reversed bytes from high to low, so that tails follow what they end."""
    wanted = {_encode(text) for entry in entries for text in (entry.name, entry.path)}
    places: dict[bytes, int] = {}
    strings = bytearray()
    previous = b""
    for text in sorted(wanted, key=lambda text: text[::-1], reverse=True):
        if previous.endswith(text):
            places[text] = places[previous] + len(previous) - len(text)
        else:
            places[text] = start + len(strings)
            strings += text + b"\0"
        previous = text
    return [(places[_encode(entry.name)], places[_encode(entry.path)]) for entry in entries], bytes(strings)


def _compare_entries(left: CacheEntry, right: CacheEntry) -> int:
    """Order as ldconfig does: names from high to low, then flags, then capabilities."""
    return (
        _compare_names(right.name, left.name)
        or (right.flags > left.flags) - (right.flags < left.flags)
        or (right.hwcap > left.hwcap) - (right.hwcap < left.hwcap)
    )


def _compare_names(left: str, right: str) -> int:
    """Compare as the dynamic linker does: runs of digits by value, and digits after everything else."""
    i = j = 0
    while i < len(left):
        a, b = left[i], right[j] if j < len(right) else "\0"
        if a in _DIGITS and b in _DIGITS:
            i2, j2 = _digits_end(left, i), _digits_end(right, j)
            difference = int(left[i:i2]) - int(right[j:j2])
            if difference:
                return difference
            i, j = i2, j2
        elif a in _DIGITS or b in _DIGITS:
            return 1 if a in _DIGITS else -1
        elif a != b:
            return ord(a) - ord(b)
        else:
            i, j = i + 1, j + 1
    return 0 if j >= len(right) else -ord(right[j])


def _digits_end(text: str, start: int) -> int:
    while start < len(text) and text[start] in _DIGITS:
        start += 1
    return start
