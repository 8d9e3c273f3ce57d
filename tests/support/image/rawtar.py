# SPDX-License-Identifier: Apache-2.0
"""
Tar archives block by block, with what no writer would write.

    pax({"path": "a"}) + header("b", size=b"1_0") + END
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

BLOCK = 512
END = bytes(2 * BLOCK)
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \x00", bytes(8)


def header(
    name: str | bytes,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: str | bytes = b"",
    magic: bytes = USTAR,
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header; numbers given as bytes stand in the field as they are, those that don't fit are base-256."""
    block = bytearray(BLOCK)
    block[0:100] = _bytes(name)[:100].ljust(100, b"\0")
    fields = ((100, 8, mode), (108, 8, uid), (116, 8, gid), (124, 12, size), (136, 12, mtime))
    for at, width, number in fields:
        block[at : at + width] = _number(number, width)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = _bytes(link)[:100].ljust(100, b"\0")
    block[257:265] = magic
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"%06o\0 " % sum(block) if checksum is None else checksum
    return bytes(block)


def member(name: str | bytes, data: bytes = b"", kind: bytes = b"0") -> bytes:
    return header(name, kind, size=len(data)) + padded(data)


def pax(records: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]], kind: bytes = b"x") -> bytes:
    items = records.items() if isinstance(records, Mapping) else records
    return member("pax", b"".join(record(key, value) for key, value in items), kind)


def long_name(name: str | bytes, kind: bytes = b"L") -> bytes:
    return member("././@LongLink", _bytes(name) + b"\0", kind)


def record(key: str, value: str | bytes) -> bytes:
    rest = b" %s=%s\n" % (key.encode(), _bytes(value))
    size = len(rest)
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    return b"%d%s" % (size, rest)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _number(value: int | bytes, width: int) -> bytes:
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")[:width]
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    number = bytearray((value & ((1 << 8 * width) - 1)).to_bytes(width, "big"))
    if value >= 0:
        number[0] |= 0x80
    return bytes(number)
