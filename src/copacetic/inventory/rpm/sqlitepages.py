# SPDX-License-Identifier: Apache-2.0
"""
Tables of an sqlite file, read page by page: nothing of its schema is carried out, no page is read twice, and the file
is changed by nobody. What was committed to a write-ahead log counts.

https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from copacetic.errors import InventoryError

__all__ = ["SqlitePages", "Value", "frame_sums"]

Value = int | bytes | None
_MAGIC = b"SQLite format 3\0"
_UTF8 = 1
_INTERIOR_TABLE, _LEAF_TABLE = 5, 13
_FIXED_SIZES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
_LOG_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
_LOG_VERSION = 3_007_000
_LOG_HEADER, _FRAME_HEADER = 32, 24
_MAX_COLUMNS = 64
_MASK = 0xFFFF_FFFF


class SqlitePages:
    """One file with its log. Raises `InventoryError`, whose text names the file, for what is none, or is damaged."""

    def __init__(self, data: bytes, path: str, log: bytes = b"") -> None:
        self._path = path
        if len(data) < 100 or not data.startswith(_MAGIC):
            raise self.broken("it is not an sqlite file")
        size: int = struct.unpack_from(">H", data, 16)[0]
        self._size = 65536 if size == 1 else size
        self._usable = self._size - data[20]
        if self._size < 512 or self._size & (self._size - 1) or self._usable < 480:
            raise self.broken(f"it has pages of {self._size} bytes")
        if struct.unpack_from(">I", data, 56)[0] != _UTF8:
            raise self.broken("its texts are not UTF-8")
        self._data = data
        self._newer = self._read_log(log) if log else {}
        self.tables: dict[str, int] = {}
        """By name, the page at which each table begins."""
        self._read_schema()

    def broken(self, why: str) -> InventoryError:
        return InventoryError(f"{self._path}: {why}")

    def rows(self, table: str) -> Iterator[tuple[int, Sequence[Value]]]:
        """Yield each row's number and columns; where the number is a column's value, that column is None."""
        root = self.tables.get(table)
        if root is None:
            raise self.broken(f"it has no table {table}")
        yield from self._walk(root)

    def _read_schema(self) -> None:
        for _, row in self._walk(1):
            if len(row) < 5:
                raise self.broken("its schema is damaged")
            kind, name, root = row[0], row[1], row[3]
            if kind == b"table" and isinstance(name, bytes) and isinstance(root, int) and root > 0:
                self.tables[name.decode("utf-8", "replace")] = root

    def _page(self, number: int) -> bytes:
        if number in self._newer:
            return self._newer[number]
        page = self._data[(number - 1) * self._size : number * self._size] if number > 0 else b""
        if len(page) != self._size:
            raise self.broken(f"page {number} is missing")
        return page

    def _walk(self, root: int) -> Iterator[tuple[int, Sequence[Value]]]:
        """Yield the rows of a tree from left to right."""
        seen: set[int] = set()
        todo = [root]
        while todo:
            number = todo.pop()
            page = self._once(number, seen)
            start = 100 if number == 1 else 0
            kind, count = page[start], struct.unpack_from(">H", page, start + 3)[0]
            if kind not in {_INTERIOR_TABLE, _LEAF_TABLE}:
                raise self.broken(f"page {number} is not one of a table")
            first = start + (8 if kind == _LEAF_TABLE else 12)
            if first + 2 * count > self._usable:
                raise self.broken(f"page {number} is damaged")
            cells = struct.unpack_from(f">{count}H", page, first)
            if kind == _LEAF_TABLE:
                for at in cells:
                    yield self._cell(page, at, seen)
            else:
                if any(at > self._usable - 4 for at in cells):
                    raise self.broken(f"page {number} is damaged")
                children = [struct.unpack_from(">I", page, at)[0] for at in cells]
                todo += [struct.unpack_from(">I", page, start + 8)[0], *reversed(children)]

    def _once(self, number: int, seen: set[int]) -> bytes:
        if number in seen:
            raise self.broken(f"page {number} is used twice")
        seen.add(number)
        return self._page(number)

    def _cell(self, page: bytes, at: int, seen: set[int]) -> tuple[int, Sequence[Value]]:
        size, at = self._varint(page, at)
        number, at = self._varint(page, at)
        if number >= 1 << 63:
            number -= 1 << 64
        most = self._usable - 35
        local = size
        if size > most:
            least = (self._usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (self._usable - 4)
            local = local if local <= most else least
        if at + local + (4 if local < size else 0) > self._usable:
            raise self.broken("a row lies outside of its page")
        payload = page[at : at + local]
        if local < size:
            following: int = struct.unpack_from(">I", page, at + local)[0]
            payload = self._overflow(payload, following, size, seen)
        return number, self._record(payload)

    def _overflow(self, start: bytes, number: int, size: int, seen: set[int]) -> bytes:
        parts, missing = [start], size - len(start)
        while missing > 0:
            page = self._once(number, seen)
            part = page[4 : min(self._usable, 4 + missing)]
            parts.append(part)
            missing -= len(part)
            number = struct.unpack_from(">I", page)[0]
        return b"".join(parts)

    def _record(self, payload: bytes) -> Sequence[Value]:
        length, at = self._varint(payload, 0)
        if length > len(payload):
            raise self.broken("a row is damaged")
        types: list[int] = []
        while at < length:
            kind, at = self._varint(payload, at)
            types.append(kind)
            if len(types) > _MAX_COLUMNS:
                raise self.broken("a row has too many columns")
        values: list[Value] = []
        at = length
        for kind in types:
            size = _FIXED_SIZES.get(kind, (kind - 12) // 2 if kind >= 12 else -1)
            if size < 0 or at + size > len(payload):
                raise self.broken("a row is damaged")
            data = payload[at : at + size]
            at += size
            if kind >= 12 or kind == 7:
                values.append(data)
            else:
                values.append(
                    None if kind == 0 else kind - 8 if kind >= 8 else int.from_bytes(data, "big", signed=True)
                )
        return values

    def _varint(self, data: bytes, at: int) -> tuple[int, int]:
        value = 0
        for count in range(9):
            if at + count >= len(data):
                raise self.broken("a row is damaged")
            byte = data[at + count]
            if count == 8:
                return value << 8 | byte, at + 9
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + count + 1
        raise AssertionError

    def _read_log(self, log: bytes) -> dict[int, bytes]:
        """
        Return the pages of all that was committed to a log. Frames that another run left behind the last commit, or
        that don't carry their checksum, were never there; nor is a log whose own header doesn't hold.
        """
        if len(log) < _LOG_HEADER:
            return {}
        magic, version, size, _, *salts = struct.unpack_from(">6I", log)
        order = _LOG_MAGIC.get(magic)
        if order is None or version != _LOG_VERSION or size != self._size:
            return {}
        sums = frame_sums(log[:24], order, (0, 0))
        if sums != struct.unpack_from(">II", log, 24):
            return {}
        committed: dict[int, bytes] = {}
        pending: dict[int, bytes] = {}
        pages = 0
        for at in range(_LOG_HEADER, len(log) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size):
            number, commit, *rest = struct.unpack_from(">6I", log, at)
            content = log[at + _FRAME_HEADER : at + _FRAME_HEADER + size]
            sums = frame_sums(content, order, frame_sums(log[at : at + 8], order, sums))
            if rest[:2] != salts or tuple(rest[2:]) != sums or number == 0:
                break
            pending[number] = content
            if commit:
                committed |= pending
                pending, pages = {}, commit
        if pages:
            self._data = self._data[: pages * size]
        return {number: page for number, page in committed.items() if number <= pages}


def frame_sums(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    """Go on with a log's checksum, which is of all that came before."""
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = first + one + second & _MASK
        second = second + other + first & _MASK
    return first, second
