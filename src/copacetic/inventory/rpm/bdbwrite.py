# SPDX-License-Identifier: Apache-2.0
"""
Files in Berkeley DB's format, made as a whole: a hash for the headers, a tree for each index.

    page header    log sequence number (8), page, previous, next, entries (2), offset of the data (2), level, type
    first page     what kind of file it is, and where it begins

What Berkeley DB derives from the inode and the time, to tell files apart, is derived from the content here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from copacetic.errors import InventoryError

__all__ = ["BTREE_MAGIC", "HASH_MAGIC", "btree_file", "hash_file"]

HASH_MAGIC, BTREE_MAGIC = 0x061561, 0x053162
_HASH_META, _BTREE_META = 8, 9
_VERSION = 9
_HEADER = 26
_INNER, _LEAF, _OVERFLOW, _BUCKET = 3, 5, 7, 13
_IN_PAGE, _OFF_PAGE = 1, 3
_MOST_BUCKETS = 1 << 20
_CHARACTERISTIC = b"%$sniglet^&\0"
"""What Berkeley DB hashes to see whether a file was made with the same hash."""


class _Pages:
    """A file in the making; its first page comes last."""

    def __init__(self, order: str, size: int) -> None:
        self.order, self.size = order, size
        self._pages: list[bytes] = [b""]

    def take(self, count: int = 1) -> int:
        """Set pages aside; return the number of the first."""
        first = len(self._pages)
        self._pages += [b""] * count
        return first

    def put(
        self, number: int, kind: int, items: Sequence[bytes], level: int = 0, links: tuple[int, int] = (0, 0)
    ) -> None:
        """Fill a page from its end."""
        offset = self.size
        offsets = [offset := offset - len(item) for item in items]
        head = self._header(number, links, len(items), offset, level, kind)
        start = head + struct.pack(f"{self.order}{len(items)}H", *offsets)
        self._pages[number] = start.ljust(offset, b"\0") + b"".join(reversed(items))

    def put_chain(self, data: bytes) -> int:
        """Put a value on pages of its own; return the number of the first."""
        room = self.size - _HEADER
        parts = [data[at : at + room] for at in range(0, len(data), room)]
        first = self.take(len(parts))
        for at, part in enumerate(parts):
            number = first + at
            links = (number - 1 if at else 0, number + 1 if at < len(parts) - 1 else 0)
            head = self._header(number, links, 1, len(part), 0, _OVERFLOW)
            self._pages[number] = (head + part).ljust(self.size, b"\0")
        return first

    def finish(self, magic: int, kind: int, rest: bytes) -> bytes:
        """Return the file; `rest` is what a first page of this kind has behind what all have."""
        body = b"".join(self._pages[1:])
        start = struct.pack(
            f"{self.order}6I4B6I",
            0,
            1,
            0,
            magic,
            _VERSION,
            self.size,
            0,
            kind,
            0,
            0,
            0,
            len(self._pages) - 1,
            0,
            0,
            0,
            0,
        )
        own = hashlib.sha256(rest + body).digest()[:20]
        return (start + own + rest).ljust(self.size, b"\0") + body

    def _header(self, number: int, links: tuple[int, int], entries: int, offset: int, level: int, kind: int) -> bytes:
        return struct.pack(f"{self.order}5I2H2B", 0, 1, number, *links, entries, offset, level, kind)


def hash_file(records: Mapping[bytes, bytes], order: str, page_size: int) -> bytes:
    """Return a hash with as many buckets as it takes that each is one page."""
    longest = page_size // 4
    sizes = {key: 5 + len(key) + (12 if len(value) > longest else 1 + len(value)) for key, value in records.items()}
    hashes = {key: _hash(key) for key in sorted(records)}
    count = 2
    while True:
        buckets: list[list[bytes]] = [[] for _ in range(count)]
        for key, hashed in hashes.items():
            buckets[hashed & count - 1].append(key)
        if all(_HEADER + sum(map(sizes.__getitem__, keys)) <= page_size for keys in buckets):
            break
        count *= 2
        if count > _MOST_BUCKETS:
            raise InventoryError("the package database can't be written in pages of its size")
    pages = _Pages(order, page_size)
    pages.take(count)
    for number, keys in enumerate(buckets, 1):
        items: list[bytes] = []
        for key in keys:
            value = records[key]
            items.append(bytes([_IN_PAGE]) + key)
            if len(value) > longest:
                items.append(struct.pack(f"{order}B3xII", _OFF_PAGE, pages.put_chain(value), len(value)))
            else:
                items.append(bytes([_IN_PAGE]) + value)
        pages.put(number, _BUCKET, items)
    doublings = count.bit_length()
    spares = [1] * doublings + [0] * (32 - doublings)
    numbers = (count - 1, count - 1, count // 2 - 1, 0, len(records), _hash(_CHARACTERISTIC), *spares)
    return pages.finish(HASH_MAGIC, _HASH_META, struct.pack(f"{order}38I", *numbers))


class _Group(NamedTuple):
    """What stays together on a page of a tree."""

    first: bytes
    """The least key in it."""
    last: bytes
    items: list[bytes]


def btree_file(records: Mapping[bytes, bytes], order: str, page_size: int) -> bytes:
    """Return a tree, packed as full as pages go."""
    pages = _Pages(order, page_size)
    root = pages.take()
    largest = (page_size - _HEADER) // 4 - 10

    def item(data: bytes) -> bytes:
        if len(data) > largest:
            return struct.pack(f"{order}HBBII", 0, _OFF_PAGE, 0, pages.put_chain(data), len(data))
        return _aligned(struct.pack(f"{order}HB", len(data), _IN_PAGE) + data)

    groups = [_Group(key, key, [item(key), item(records[key])]) for key in sorted(records)]
    kind, level = _LEAF, 1
    while True:
        filled = list(_filled(groups, page_size - _HEADER))
        if len(filled) == 1:
            pages.put(root, kind, [one for group in filled[0] for one in group.items], level)
            break
        first = pages.take(len(filled))
        above: list[_Group] = []
        last = b""
        for number, row in enumerate(filled, first):
            links = (number - 1 if above else 0, number + 1 if number < first + len(filled) - 1 else 0)
            pages.put(number, kind, [one for group in row for one in group.items], level, links)
            separator = _separator(last, row[0].first) if above else b""
            entry = _aligned(struct.pack(f"{order}HBBII", len(separator), _IN_PAGE, 0, number, 0) + separator)
            above.append(_Group(separator or row[0].first, row[-1].last, [entry]))
            last = row[-1].last
        groups, kind, level = above, _INNER, level + 1
    return pages.finish(BTREE_MAGIC, _BTREE_META, struct.pack(f"{order}6I", 0, 2, 0, ord(" "), root, 0))


def _filled(groups: Iterable[_Group], room: int) -> Iterator[list[_Group]]:
    """Yield what goes on each page; one at least, which may be empty."""
    page: list[_Group] = []
    used = 0
    for group in groups:
        size = sum(len(item) + 2 for item in group.items)
        if page and used + size > room:
            yield page
            page, used = [], 0
        page.append(group)
        used += size
    yield page


def _separator(before: bytes, key: bytes) -> bytes:
    """Return as much of a key as tells that it is behind another one."""
    common = next((at for at, (one, other) in enumerate(zip(before, key, strict=False)) if one != other), len(before))
    return key[: common + 1]


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _hash(key: bytes) -> int:
    """FNV-1 of 32 bits, from 0."""
    value = 0
    for byte in key:
        value = value * 0x0100_0193 & 0xFFFF_FFFF ^ byte
    return value
