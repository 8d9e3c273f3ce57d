# SPDX-License-Identifier: Apache-2.0
"""
The fields of a tar header and the records of a pax header, as Go's archive/tar takes them.

A number is digits and nothing else: what Python's `int` takes besides (`1_0`, `0o10`) other readers refuse or take
for something else.
"""

from __future__ import annotations

import re

_DECIMAL = re.compile(rb"[+-]?[0-9]{1,40}")
_SECONDS = re.compile(rb"([+-]?[0-9]{1,40})(?:\.([0-9]*))?")
_TEXTS = frozenset({"path", "linkpath", "uname", "gname"})


class TarError(ValueError):
    """The archive is broken; callers say which file it is."""


class HostileTarError(TarError):
    """The archive holds what no honest writer puts there."""


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def cut(data: bytes) -> bytes:
    """Return what stands before the first NUL."""
    end = data.find(b"\0")
    return data if end < 0 else data[:end]


def octal(data: bytes) -> int:
    """Read octal digits between spaces and NULs, or two's complement after a set high bit (GNU)."""
    if data[0] & 0x80:
        value = int.from_bytes(data, "big") & ((1 << (8 * len(data) - 1)) - 1)
        return _fits(value - (1 << (8 * len(data) - 1)) if data[0] & 0x40 else value)
    digits = data.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        digits = cut(digits)
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise TarError(f"not an octal number: {data!r}")


def name_prefix(block: bytes, magic: bytes, prefix: bytes) -> bytes:
    """Return what stands before the name in a header's field for it, empty where the field is something else."""
    if magic == b"ustar\0":
        return cut(prefix[:131] if block.endswith(b"tar\0") else prefix)  # star has times behind a shorter one
    if magic != b"ustar " or not cut(prefix).isascii():
        return b""
    try:  # GNU has two times there; a Go before 1.8 wrote names all the same
        octal(prefix[:12])
        if prefix[12]:
            octal(prefix[12:24])
    except TarError:
        return cut(prefix)
    return b""


def decimal(data: bytes) -> int:
    """Read a number of a pax record."""
    if not _DECIMAL.fullmatch(data):
        raise TarError(f"not a decimal number in a pax header: {data[:40]!r}")
    return _fits(int(data))


def pax_seconds(data: bytes) -> int:
    """Read a time of a pax record; a fraction is left out, downwards."""
    found = _SECONDS.fullmatch(data)
    if found is None:
        raise TarError(f"not a time in a pax header: {data[:40]!r}")
    return _fits(int(found[1])) - (data.startswith(b"-") and bool((found[2] or b"")[:9].strip(b"0")))


def _fits(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise TarError("a number of more than 64 bits")
    return value


def pax_records(data: bytes) -> dict[str, bytes]:
    """Read the records of a pax header; the last of a name counts."""
    records: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise TarError("a broken pax header")
        end = at + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not record.endswith(b"\n") or not equals or not key or b"\0" in key:
            raise TarError("a broken pax header")
        name = text(key)
        if name in _TEXTS and b"\0" in value:
            raise TarError(f"NUL in the pax record {name}")
        records[name] = value[:-1]
        at = end
    return records
