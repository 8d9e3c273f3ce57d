# SPDX-License-Identifier: Apache-2.0
"""
`Packages` and its index files in Berkeley DB's format, of EL 7 and 8, Amazon Linux 2, Oracle and UBI 8: read.

Every page is looked at once, whatever the file's own directory of pages says; a value that fills several is a chain
of pages. Numbers are in the order of bytes of the machine that made the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from copacetic.errors import InventoryError
from copacetic.inventory.rpm.bdbwrite import BTREE_MAGIC, HASH_MAGIC, btree_file, hash_file
from copacetic.inventory.rpm.index import INDEXES, IndexRules
from copacetic.inventory.rpm.store import DATABASE_LIMIT, Contents, check_count, check_number, read_if_there
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm.header import RpmHeader

__all__ = ["ENVIRONMENT", "PACKAGES", "BdbFile", "BdbStore"]

PACKAGES = "Packages"
ENVIRONMENT = "__db."
"""What files of a shared cache begin with: rpm believes them more than the database."""
_PAGE_HEADER = 26
_OVERFLOW, _HASH_UNSORTED, _HASH, _BTREE_LEAF = 7, 2, 13, 5
_IN_PAGE, _DUPLICATES, _OFF_PAGE = 1, 2, 3
_DELETED = 0x80
_VERSIONS = {HASH_MAGIC: range(8, 11), BTREE_MAGIC: range(8, 11)}


class BdbFile:
    """One file. Raises `InventoryError`, whose text names it, for what is none, or is damaged."""

    def __init__(self, data: bytes, path: str) -> None:
        self._path = path
        self._data = data
        if len(data) < 512:
            raise self.broken("it is truncated")
        self.order = next((o for o in "<>" if struct.unpack_from(f"{o}I", data, 12)[0] in _VERSIONS), "")
        """Of bytes, as `struct` has it."""
        if not self.order:
            raise self.broken("it is not one of Berkeley DB's")
        magic, version, self.page_size = struct.unpack_from(f"{self.order}3I", data, 12)
        encrypted, _, flags = data[24:27]
        if version not in _VERSIONS[magic] or encrypted or flags:
            raise self.broken("it is of a kind that rpm doesn't make")
        if self.page_size not in (512 << n for n in range(8)):
            raise self.broken(f"it has pages of {self.page_size} bytes")
        self._is_hash = magic == HASH_MAGIC
        self._last: int = struct.unpack_from(f"{self.order}I", data, 32)[0]
        if (self._last + 1) * self.page_size > len(data):
            raise self.broken("it is truncated")
        self._seen: set[int] = set()

    def broken(self, why: str) -> InventoryError:
        return InventoryError(f"{self._path}: {why}")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys with their values, in the order of pages."""
        self._seen.clear()
        kinds = {_HASH, _HASH_UNSORTED} if self._is_hash else {_BTREE_LEAF}
        for number in range(1, self._last + 1):
            at = number * self.page_size
            if self._data[at + 25] not in kinds:
                continue
            count: int = struct.unpack_from(f"{self.order}H", self._data, at + 20)[0]
            if count % 2 or _PAGE_HEADER + 2 * count > self.page_size:
                raise self.broken(f"page {number} is damaged")
            offsets = struct.unpack_from(f"{self.order}{count}H", self._data, at + _PAGE_HEADER)
            first = _PAGE_HEADER + 2 * count
            if any(not first <= offset < self.page_size for offset in offsets):
                raise self.broken(f"page {number} is damaged")
            page = self._data[at : at + self.page_size]
            read = self._hash_items if self._is_hash else self._btree_items
            found = list(read(page, offsets, number))
            for key, value in zip(found[::2], found[1::2], strict=True):
                if key is not None and value is not None:
                    yield key, value

    def _hash_items(self, page: bytes, offsets: tuple[int, ...], number: int) -> Iterator[bytes | None]:
        """An item ends where the one before begins."""
        end = len(page)
        for offset in offsets:
            if offset >= end:
                raise self.broken(f"page {number} is damaged")
            kind = page[offset]
            if kind == _IN_PAGE:
                yield page[offset + 1 : end]
            elif kind == _OFF_PAGE and end - offset >= 12:
                yield self._chain(*struct.unpack_from(f"{self.order}II", page, offset + 4))
            else:
                raise self.broken(f"page {number} has an item that rpm doesn't make")
            end = offset

    def _btree_items(self, page: bytes, offsets: tuple[int, ...], number: int) -> Iterator[bytes | None]:
        for offset in offsets:
            if offset + 3 > len(page):
                raise self.broken(f"page {number} is damaged")
            size, kind = struct.unpack_from(f"{self.order}HB", page, offset)
            if kind & _DELETED:
                yield None
            elif kind == _IN_PAGE and offset + 3 + size <= len(page):
                yield page[offset + 3 : offset + 3 + size]
            elif kind == _OFF_PAGE and offset + 12 <= len(page):
                yield self._chain(*struct.unpack_from(f"{self.order}II", page, offset + 4))
            else:
                raise self.broken(f"page {number} has an item that rpm doesn't make")

    def _chain(self, number: int, size: int) -> bytes:
        """Return what lies on pages of its own."""
        parts: list[bytes] = []
        found = 0
        while number:
            if not 0 < number <= self._last or number in self._seen:
                raise self.broken(f"page {number} is used twice, or missing")
            self._seen.add(number)
            at = number * self.page_size
            following, length = struct.unpack_from(f"{self.order}I2xH", self._data, at + 16)
            if self._data[at + 25] != _OVERFLOW or length > self.page_size - _PAGE_HEADER:
                raise self.broken(f"page {number} is damaged")
            parts.append(self._data[at + _PAGE_HEADER : at + _PAGE_HEADER + length])
            found += length
            number = following
        if found != size:
            raise self.broken(f"a value has {found} bytes instead of {size}")
        return b"".join(parts)


class BdbStore:
    """`RpmStore` of `Packages` and the files of its indexes."""

    format = "rpm Berkeley DB"

    def __init__(self, file: BdbFile, path: str, contents: Contents, beside: Iterable[str]) -> None:
        self.path = path
        self.contents = contents
        self._order, self._page_size = file.order, file.page_size
        self._folder = path.rpartition("/")[0]
        names = tuple(beside)
        self._indexes = tuple(name for name in INDEXES if name in names)
        self._stale = tuple(name for name in names if name.startswith(ENVIRONMENT))

    @classmethod
    def open(cls, fs: ImageFilesystem, folder: str) -> BdbStore | None:
        """Open the file of a folder. Raises `InventoryError`."""
        path = fs.resolve(f"{folder}/{PACKAGES}")
        data = read_if_there(fs, path, DATABASE_LIMIT)
        if not data:
            return None
        file = BdbFile(data, path)
        headers: dict[int, bytes] = {}
        highest = 0
        for key, value in file.items():
            number: int = struct.unpack(f"{file.order}I", key)[0] if len(key) == 4 else -1
            if number == 0 and len(value) == 4:
                highest = struct.unpack(f"{file.order}I", value)[0]
            elif check_number(number, path) in headers:
                raise file.broken(f"it has the number {number} twice")
            else:
                headers[number] = value
                check_count(len(headers), path)
        ordered = dict(sorted(headers.items()))
        highest = max([highest, *headers])
        if headers:
            check_number(highest, path)
        return cls(file, path, Contents(ordered, highest), fs.iterdir(folder))

    def notes(self) -> tuple[str, ...]:
        return ()

    def write(self, headers: Mapping[int, RpmHeader], highest: int, rules: IndexRules) -> Mapping[str, bytes | None]:
        word = struct.Struct(f"{self._order}I")
        records = {word.pack(number): header.blob for number, header in headers.items()}
        records[word.pack(0)] = word.pack(highest)
        files: dict[str, bytes | None] = {self.path: hash_file(records, self._order, self._page_size)}
        pair = struct.Struct(f"{self._order}II")
        rules = replace(rules, order=self._order)
        for index in self._indexes:
            found: dict[bytes, list[bytes]] = {}
            for number, header in headers.items():
                for key, at in rules.rows(header, index):
                    found.setdefault(key or b"\0", []).append(pair.pack(number, at))
            rows = {key: b"".join(pairs) for key, pairs in found.items()}
            files[f"{self._folder}/{index}"] = btree_file(rows, self._order, self._page_size)
        return files | {f"{self._folder}/{name}": None for name in self._stale}
