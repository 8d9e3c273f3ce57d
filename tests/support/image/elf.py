# SPDX-License-Identifier: Apache-2.0
"""The smallest shared objects that ldconfig takes for libraries."""

from __future__ import annotations

import struct

X86_64, AARCH64 = 62, 183
_BASE = 0x40


def shared_object(soname: str = "", *, machine: int = X86_64, filler: bytes = b"") -> bytes:
    """Return a 64-bit little-endian library with a dynamic section, and a name of its own unless that is empty."""
    strings = b"\0" + soname.encode() + b"\0"
    headers = 2
    strings_at = _BASE + 56 * headers
    dynamic_at = (strings_at + len(strings) + 7) & ~7
    tags = [(5, strings_at), (10, len(strings))]
    if soname:
        tags.append((14, 1))
    dynamic = b"".join(struct.pack("<qQ", tag, value) for tag, value in [*tags, (0, 0)])
    size = dynamic_at + len(dynamic)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, _BASE, 0, 0, 64, 56, headers, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 0x1000)
    described = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    body = header + load + described + strings
    return body + bytes(dynamic_at - len(body)) + dynamic + filler
