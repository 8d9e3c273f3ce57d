# SPDX-License-Identifier: Apache-2.0
"""
`Packages.db`, of SUSE: slots, which say where in the file each header is, and the headers in blocks behind them.

    RpmP version generation pages next          then slots of 16 bytes, as many as fill those pages
    Slot instance block blocks
    BlbS instance generation length header padding adler32 length BlbE

`Index.db` beside it (`ndbindex`) says of which generation of this file it speaks. Numbers are in the machine's own
order of bytes, which is the little-endian one wherever this is used.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from copacetic.errors import InventoryError
from copacetic.inventory.rpm.index import IndexRules
from copacetic.inventory.rpm.ndbindex import NdbIndex
from copacetic.inventory.rpm.store import DATABASE_LIMIT, Contents, check_count, check_number, read_if_there
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm.header import RpmHeader

__all__ = ["FILES", "NdbStore"]

FILES = ("Packages.db", "Index.db")
_PAGE, _BLOCK, _SLOT = 4096, 16, 16
_HEADER = struct.Struct("<4sIIII")
_ROW = struct.Struct("<4sIII")
_END = struct.Struct("<II4s")
_MAX_PAGES = 2048
_MASK = 0xFFFF_FFFF


class NdbStore:
    """`RpmStore` of `Packages.db` and its `Index.db`."""

    format = "rpm ndb"

    def __init__(self, path: str, contents: Contents, generation: int, index: NdbIndex) -> None:
        self.path = path
        self.contents = contents
        self._generation = generation
        self._index = index

    @classmethod
    def open(cls, fs: ImageFilesystem, folder: str) -> NdbStore | None:
        """Open the file of a folder. Raises `InventoryError`."""
        path = fs.resolve(f"{folder}/{FILES[0]}")
        data = read_if_there(fs, path, DATABASE_LIMIT)
        if not data:
            return None
        generation, following, headers = _read(data, path)
        return cls(path, Contents(headers, following - 1), generation, NdbIndex.open(fs, folder, generation))

    def notes(self) -> tuple[str, ...]:
        return self._index.notes()

    def write(self, headers: Mapping[int, RpmHeader], highest: int, rules: IndexRules) -> Mapping[str, bytes | None]:
        generation = self._generation + 1 & _MASK
        blobs = {number: header.blob for number, header in headers.items()}
        return {
            self.path: _format(blobs, generation, highest + 1),
            self._index.path: self._index.format(headers, generation, rules),
        }


def _read(data: bytes, path: str) -> tuple[int, int, dict[int, bytes]]:
    """Return the generation, the instance number that comes next, and the headers."""
    if len(data) < _PAGE or len(data) % _BLOCK:
        raise InventoryError(f"{path} is truncated")
    magic, version, generation, pages, following = _HEADER.unpack_from(data)
    if magic != b"RpmP" or version != 0 or not 1 <= pages <= min(_MAX_PAGES, len(data) // _PAGE):
        raise InventoryError(f"{path} is not one of rpm's")
    blobs: dict[int, bytes] = {}
    places: list[tuple[int, int]] = []
    for at in range(2 * _SLOT, pages * _PAGE, _SLOT):
        magic, number, block, count = _ROW.unpack_from(data, at)
        if magic != b"Slot":
            raise InventoryError(f"{path}: a slot is damaged")
        if block:
            if check_number(number, path) in blobs:
                raise InventoryError(f"{path} has the number {number} twice")
            places.append((block, block + count))
            blobs[number] = _blob(data[block * _BLOCK : (block + count) * _BLOCK], number, f"{path}: package {number}")
    check_count(len(blobs), path)
    end = pages * _PAGE // _BLOCK
    for start, behind in sorted(places):
        if start < end:
            raise InventoryError(f"{path}: packages lie over each other")
        end = behind
    following = max(following, *(number + 1 for number in blobs), 1)
    return generation, check_number(following, path), dict(sorted(blobs.items()))


def _blob(data: bytes, number: int, what: str) -> bytes:
    if len(data) < _ROW.size + _END.size:
        raise InventoryError(f"{what} is truncated")
    magic, own_number, _, length = _ROW.unpack_from(data)
    total, own_length, end = _END.unpack_from(data, len(data) - _END.size)
    blocks = -(-(_ROW.size + length + _END.size) // _BLOCK)
    if (magic, own_number, end, own_length) != (b"BlbS", number, b"BlbE", length) or blocks * _BLOCK != len(data):
        raise InventoryError(f"{what} is damaged")
    if zlib.adler32(data[: -_END.size]) != total:
        raise InventoryError(f"{what} is damaged")
    return data[_ROW.size : _ROW.size + length]


def _format(blobs: Mapping[int, bytes], generation: int, following: int) -> bytes:
    """Return a file without gaps, packages in the order of their numbers."""
    pages = max(1, -(-((len(blobs) + 2) * _SLOT) // _PAGE))
    block = pages * _PAGE // _BLOCK
    slots: list[bytes] = []
    parts: list[bytes] = []
    for number, blob in blobs.items():
        size = -(-(_ROW.size + len(blob) + _END.size) // _BLOCK) * _BLOCK
        part = (_ROW.pack(b"BlbS", number, generation, len(blob)) + blob).ljust(size - _END.size, b"\0")
        parts.append(part + _END.pack(zlib.adler32(part), len(blob), b"BlbE"))
        slots.append(_ROW.pack(b"Slot", number, block, size // _BLOCK))
        block += size // _BLOCK
    free = pages * _PAGE // _SLOT - 2 - len(slots)
    head = _HEADER.pack(b"RpmP", 0, generation, pages, following).ljust(2 * _SLOT, b"\0")
    return b"".join([head, *slots, _ROW.pack(b"Slot", 0, 0, 0) * free, *parts])
