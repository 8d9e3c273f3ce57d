# SPDX-License-Identifier: Apache-2.0
"""
The little of ELF that ldconfig looks at: class, machine, and the name that a shared object gives itself.

Follows the ELF gABI (chapter 5, dynamic section). Whatever isn't a shared object that is well formed is None.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from msgspec import Struct

__all__ = ["SharedObject", "read_shared_object"]

Read = Callable[[int, int], bytes]
"""Returns the bytes at an offset, as many as there are."""

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_STRTAB, _DT_SONAME = 5, 14
_MAX_HEADERS = 256
_MAX_DYNAMIC = 64 * 1024


class SharedObject(Struct, frozen=True):
    """What ldconfig wants to know of a library."""

    bits: int
    machine: int
    soname: str
    """Empty when it has none."""


def read_shared_object(read: Read) -> SharedObject | None:
    """Parse a shared object."""
    try:
        return _read(read)
    except (struct.error, UnicodeDecodeError, ValueError):
        return None


def _read(read: Read) -> SharedObject | None:
    ident = read(0, 64)
    if len(ident) < 64 or ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        return None
    order = "<" if ident[5] == 1 else ">"
    wide = ident[4] == 2
    kind, machine = struct.unpack_from(order + "HH", ident, 16)
    table, size, count = _header_table(ident, order, wide=wide)
    if kind != 3 or count > _MAX_HEADERS:
        return None
    segments = [_segment(read(table + size * index, size), order, wide=wide) for index in range(count)]
    dynamic = next((segment for segment in segments if segment[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return None
    _, offset, _, length = dynamic
    tags = _tags(read(offset, min(length, _MAX_DYNAMIC)), order, wide=wide)
    soname = ""
    if _DT_SONAME in tags and _DT_STRTAB in tags:
        address = tags[_DT_STRTAB] + tags[_DT_SONAME]
        for _type, start, virtual, filesize in (s for s in segments if s[0] == _PT_LOAD):
            if virtual <= address < virtual + filesize:
                soname = read(start + address - virtual, 256).partition(b"\0")[0].decode("ascii")
    return SharedObject(64 if wide else 32, machine, soname)


def _header_table(ident: bytes, order: str, *, wide: bool) -> tuple[int, int, int]:
    """Return where the program headers are, how large and how many."""
    if wide:
        (table,) = struct.unpack_from(order + "Q", ident, 32)
        size, count = struct.unpack_from(order + "HH", ident, 54)
    else:
        (table,) = struct.unpack_from(order + "I", ident, 28)
        size, count = struct.unpack_from(order + "HH", ident, 42)
    return table, size, count


def _segment(header: bytes, order: str, *, wide: bool) -> tuple[int, int, int, int]:
    """Return a program header's type, offset, virtual address and size in the file."""
    if wide:
        kind, _flags, offset, virtual, _physical, size = struct.unpack_from(order + "IIQQQQ", header)
    else:
        kind, offset, virtual, _physical, size = struct.unpack_from(order + "IIIII", header)
    return kind, offset, virtual, size


def _tags(data: bytes, order: str, *, wide: bool) -> dict[int, int]:
    form = struct.Struct(order + ("qQ" if wide else "iI"))
    found: dict[int, int] = {}
    for tag, value in form.iter_unpack(data[: len(data) - len(data) % form.size]):
        if tag == 0:
            break
        found.setdefault(tag, value)
    return found
