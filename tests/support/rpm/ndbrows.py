# SPDX-License-Identifier: Apache-2.0
"""What an `Index.db` says, read slot by slot."""

from __future__ import annotations

import struct


def index_rows(data: bytes) -> dict[int, set[tuple[bytes, int, int]]]:
    """Return (key, package, position) by tag."""
    magic, _, _, pages, size, _ = struct.unpack_from("<4s5I", data)
    assert magic == b"RpmX"
    found: dict[int, set[tuple[bytes, int, int]]] = {}
    for at in range(32, pages * size, 16):
        _, _, tag, page, count = struct.unpack_from("<3sBIII", data, at)
        if page:
            found[tag] = _rows(data[page * size : (page + count) * size])
    return found


def _rows(table: bytes) -> set[tuple[bytes, int, int]]:
    _, _, _, count, used, dummies, mask, _, _, _ = struct.unpack_from("<4s9I", table)
    slots = struct.unpack_from(f"<{2 * count}I", table, 64)
    overflow = struct.unpack_from(f"<{count}I", table, 64 + 8 * count)
    rows: set[tuple[bytes, int, int]] = set()
    for number, (place, found) in enumerate(zip(slots[::2], slots[1::2], strict=True)):
        if place in {0, 0xFFFF_FFFF}:
            continue
        key = _key(table, 64 + 12 * count + (place & ~mask))
        if found >> 31:
            rows.add((key, overflow[number], found & 0x7FFF_FFFF))
        elif found >> 30:
            rows.add((key, found & 0xFF_FFFF, found >> 24 & 0x3F))
        else:
            rows.add((key, found & 0xF_FFFF, found >> 20))
    assert len(rows) == used - dummies
    return rows


def _key(table: bytes, at: int) -> bytes:
    size, start = table[at], at + 1
    if size == 255:
        size, start = struct.unpack_from("<H", table, at + 1)[0], at + 3
    return table[start : start + size]
