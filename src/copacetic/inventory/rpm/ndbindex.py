# SPDX-License-Identifier: Apache-2.0
"""
`Index.db`, beside `Packages.db`: a container of pages with one hash table for each indexed tag.

    RpmX version generation pages pagesize usergeneration     then slots: Slo subtag tag page pages
    RpmI version generation slots used dummies mask keys 0 0  then slots, an overflow number for each, and the keys

A slot holds where its key is, with some bits of the key's hash, and a package with the position of what has the key.
A table says the same for the same rows only when they come in the same order: it is rpm's.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence

from copacetic.inventory.rpm.index import INDEXES, IndexRules
from copacetic.inventory.rpm.store import DATABASE_LIMIT
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm.header import RpmHeader

__all__ = ["NAME", "NdbIndex", "murmur"]

NAME = "Index.db"
_PAGE = 4096
_HEADER = struct.Struct("<4sIIIII")
_SLOT = struct.Struct("<3sBIII")
_TABLE_HEADER = 64
_LEAST_ROWS, _LEAST_KEY_SPACE, _LEAST_OFFSETS = 256, 4096, 0x10000
_MASK = 0xFFFF_FFFF
_MULTIPLIER = 0x5BD1_E995
_NAMES = {tag: name for name, tag in INDEXES.items()}


class NdbIndex:
    """Where it is, or has to be, and which tags it indexes."""

    def __init__(self, path: str, tags: Sequence[int], fault: str = "") -> None:
        self.path = path
        self._tags = tuple(tags)
        self._fault = fault

    @classmethod
    def open(cls, fs: ImageFilesystem, folder: str, generation: int) -> NdbIndex:
        """Read which tags are indexed. One that is absent, damaged or outdated is written anew with all of them."""
        path = fs.resolve(f"{folder}/{NAME}")
        everything = tuple(INDEXES.values())
        try:
            data = fs.read(path, limit=DATABASE_LIMIT)
        except FileNotFoundError:
            return cls(path, everything, "is missing")
        if len(data) < _PAGE:
            return cls(path, everything, "is truncated")
        magic, version, _, pages, size, speaks_of = _HEADER.unpack_from(data)
        if magic != b"RpmX" or version != 0 or size != _PAGE or not 1 <= pages <= len(data) // _PAGE:
            return cls(path, everything, "is not one of rpm's")
        tags: list[int] = []
        for at in range(2 * _SLOT.size, pages * _PAGE, _SLOT.size):
            magic, subtag, tag, page, _ = _SLOT.unpack_from(data, at)
            if magic != b"Slo":
                return cls(path, everything, "is damaged")
            if page and subtag == 0 and tag in _NAMES and tag not in tags:
                tags.append(tag)
        return cls(path, tags or everything, "" if speaks_of == generation else "is not about this state of it")

    def notes(self) -> tuple[str, ...]:
        if not self._fault:
            return ()
        return (
            f"{self.path} {self._fault}: the image's own rpm finds packages by name only once it has made a new one",
        )

    def format(self, headers: Mapping[int, RpmHeader], generation: int, rules: IndexRules) -> bytes:
        """Return the file for a generation of `Packages.db`."""
        slots: list[bytes] = []
        tables: list[bytes] = []
        page = 1
        for tag in self._tags:
            rows = (
                (key, number, at) for number, header in headers.items() for key, at in rules.rows(header, _NAMES[tag])
            )
            table = _table(rows)
            slots.append(_SLOT.pack(b"Slo", 0, tag, page, len(table) // _PAGE))
            tables.append(table)
            page += len(table) // _PAGE
        free = _PAGE // _SLOT.size - 2 - len(slots)
        head = _HEADER.pack(b"RpmX", 0, 1, 1, _PAGE, generation).ljust(2 * _SLOT.size, b"\0")
        return b"".join([head, *slots, _SLOT.pack(b"Slo", 0, 0, 0, 0) * free, *tables])


def _table(rows: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Return the hash table of an index's rows, which are in rpm's order; each counts once."""
    unique = list(dict.fromkeys(rows))
    count = 4 << max(len(unique), _LEAST_ROWS).bit_length() - 1
    keys: dict[bytes, tuple[int, int]] = {}
    space = bytearray(1)
    for key, _, _ in unique:
        if key not in keys:
            keys[key] = (len(space), murmur(key))
            space += _length(len(key)) + key
    size = _TABLE_HEADER + 12 * count + max(len(space) + 1, _LEAST_KEY_SPACE)
    size += -size % _PAGE
    mask = _hash_mask(size - _TABLE_HEADER - 12 * count)
    slots, overflow = array("I", bytes(8 * count)), array("I", bytes(4 * count))
    reached: dict[int, tuple[int, int]] = {}
    """How far each search has come: nothing that it has passed gets free again."""
    for key, number, at in unique:
        place, hashed = keys[key]
        start = hashed & count - 1
        slot, step = reached.get(start, (start, 7))
        while slots[2 * slot]:
            slot, step = slot + step & count - 1, step + 1
        reached[start] = slot, step
        if number < 1 << 20 and at < 1 << 10:
            found = number | at << 20
        elif number < 1 << 24 and at < 1 << 6:
            found = number | at << 24 | 1 << 30
        else:
            found, overflow[slot] = at | 1 << 31, number
        slots[2 * slot], slots[2 * slot + 1] = place | hashed & mask, found
    head = struct.pack("<4s9I", b"RpmI", 0, 1, count, len(unique), 0, mask, len(space), 0, 0)
    body = b"".join(struct.pack(f"<{len(words)}I", *words) for words in (slots, overflow))
    return (head.ljust(_TABLE_HEADER, b"\0") + body + space).ljust(size, b"\0")


def _hash_mask(space: int) -> int:
    """The bits of a slot's first word that no place of a key needs."""
    offsets = _LEAST_OFFSETS
    while offsets < space + 8192:
        offsets <<= 1
    return ~(offsets - 1) & _MASK


def _length(size: int) -> bytes:
    if 0 < size < 0xFF:
        return bytes([size])
    return b"\xff" + struct.pack("<H", size) if size < 0xFFFF else b"\xff\xff\xff" + struct.pack("<I", size)


def murmur(key: bytes) -> int:
    """A kind of MurmurHash 1 that is rpm's own."""
    size = len(key)
    value = size * _MULTIPLIER & _MASK
    whole = size & ~3
    for word in struct.unpack(f"<{size >> 2}I", key[:whole]):
        value = (value + word) * _MULTIPLIER & _MASK
        value ^= value >> 16
    if size > whole:
        value = (value + int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
        value ^= value >> 16
    value = value * _MULTIPLIER & _MASK
    value ^= value >> 10
    value = value * _MULTIPLIER & _MASK
    return value ^ value >> 17
