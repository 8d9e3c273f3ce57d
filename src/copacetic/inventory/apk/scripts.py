# SPDX-License-Identifier: Apache-2.0
"""
`scripts.tar`, `triggers` and `world`: read leniently, written in the form of the image's own apk-tools.

    writer            identity in names   numbers             time               order
    before 2.12.8     Q1 and base64       11 digits, NUL      now                that of `installed`
    2.12.8 - 2.14.0   Q1 and base64       12 digits           now                as read, upgraded ones last
    2.14.1 - 2.14.x   Q1 and base64       12 digits           when it was built  as read, upgraded ones last
    3.0               X1 and hexadecimal  12 digits           when it was built  by name

Names are cut at 99 bytes, after which apk itself can't find the script any more. The base64 of an identity may hold
a slash, so nothing may ever be extracted from here by its name.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from copacetic.apk import SCRIPTS
from copacetic.apk.stanza import checksum_bytes, checksum_of
from copacetic.apk.tools import ApkTools
from copacetic.compression import DecompressionError, decompress
from copacetic.errors import InventoryError
from copacetic.lines import split_lines

__all__ = [
    "ScriptFile",
    "ScriptRow",
    "compress_scripts",
    "display_key",
    "format_row",
    "format_scripts",
    "format_world",
    "parse_triggers",
    "read_scripts",
    "splice_rows",
]

PLAIN_LIMIT = 64 * 1024 * 1024
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_LATEST = 8**11 - 1
"""The greatest number of 11 octal digits."""
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class ScriptRow(Struct, frozen=True, kw_only=True):
    """The scripts of one package."""

    name: str
    version: str
    identity: bytes
    """The 20 bytes of the package's identity."""
    built: int
    """Seconds since the epoch; what has no room in a header counts as 0."""
    scripts: Mapping[str, bytes]


class ScriptFile(Struct, frozen=True):
    """What is in a `scripts.tar`, by the packages' identities."""

    scripts: Mapping[bytes, Mapping[str, bytes]]
    raw: Mapping[bytes, bytes]
    """The same entries as they were read, in their order."""


def read_scripts(data: bytes, path: str) -> ScriptFile:
    """Read a plain or gzipped file. Names that follow no rule are left out, as apk does. Raises `InventoryError`."""
    try:
        plain = decompress(data, limit=PLAIN_LIMIT)
    except DecompressionError as error:
        raise InventoryError(f"{path}: {error}") from error
    scripts: dict[bytes, dict[str, bytes]] = {}
    raw: dict[bytes, list[bytes]] = {}
    at = 0
    while at + _BLOCK <= len(plain) and any(header := plain[at : at + _BLOCK]):
        size = _size(header)
        end = at + _BLOCK + size + -size % _BLOCK
        if end > len(plain):
            raise InventoryError(f"{path} is truncated")
        words = header[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape").rsplit(".", 2)
        identity = checksum_bytes(words[1]) if len(words) == 3 else None
        if identity is not None and words[2] in SCRIPTS:
            scripts.setdefault(identity, {})[words[2]] = plain[at + _BLOCK : at + _BLOCK + size]
            raw.setdefault(identity, []).append(plain[at:end])
        at = end
    return ScriptFile(scripts, {identity: b"".join(parts) for identity, parts in raw.items()})


def _size(header: bytes) -> int:
    digits = header[124:136].rstrip(b"\0 ").lstrip(b" ")
    # int() would take signs and underscores, too.
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0


def format_scripts(rows: Iterable[ScriptRow], tools: ApkTools, *, now: int) -> bytes:
    """Return the whole plain file; `now` is the time that old writers put on every entry."""
    return b"".join(format_row(row, tools, now=now) for row in rows) + _END


def format_row(row: ScriptRow, tools: ApkTools, *, now: int) -> bytes:
    """Return one package's entries."""
    old_numbers = tools.release is not None and tools.release < (2, 12, 8)
    stamped = tools.release is not None and tools.release < (2, 14, 1)
    mtime = now if stamped else row.built
    if not 0 <= mtime <= _LATEST:
        mtime = 0
    identity = f"X1{row.identity.hex()}" if tools.is_apk3 else checksum_of(row.identity)
    parts: list[bytes] = []
    for script in SCRIPTS:
        data = row.scripts.get(script)
        if data is None:
            continue
        name = f"{row.name}-{row.version}.{identity}.{script}".encode("utf-8", "surrogateescape")[:99]
        numbers = b"%011o\0%011o\0" if old_numbers else b"%012o%012o"
        header = bytearray(_BLOCK)
        header[: len(name)] = name
        header[100:124] = b"0000755\0" + b"0000000\0" * 2
        header[124:148] = numbers % (len(data), mtime)
        header[148:157] = b" " * 8 + b"0"
        header[257:265] = b"ustar  \0"
        header[265:269] = header[297:301] = b"root"
        header[148:156] = b"%06o\0 " % sum(header)
        parts += [bytes(header), data, bytes(-len(data) % _BLOCK)]
    return b"".join(parts)


def splice_rows(file: ScriptFile, replaced: Mapping[bytes, bytes], added: Sequence[bytes]) -> bytes:
    """Return the file with some packages' entries replaced (by b"" removed) where they stand, and others at its end."""
    kept = [replaced.get(identity, entries) for identity, entries in file.raw.items()]
    return b"".join([*kept, *added]) + _END


def compress_scripts(plain: bytes) -> bytes:
    """Return what goes into `scripts.tar.gz`."""
    return gzip.compress(plain, 9, mtime=0)


def parse_triggers(text: str) -> list[tuple[bytes | None, str]]:
    """Return each line with the identity in front of it; None for one that apk would pass over."""
    rows: list[tuple[bytes | None, str]] = []
    for line in split_lines(text):
        word = line.partition(" ")[0]
        rows.append((checksum_bytes(word), line))
    return [row for row in rows if row[1].strip()]


def format_world(text: str) -> str:
    """Return `world` as apk writes it on every commit: a dependency on each line, sorted by name; never empty."""
    words = dict.fromkeys(text.split())
    lines = [f"{word}\n" for word in sorted(words, key=lambda word: display_key(_bare_name(word)))]
    return "".join(lines) or "\n"


def _bare_name(word: str) -> str:
    """The name in a dependency, without conflict mark, tag and version."""
    bare = word.removeprefix("!")
    ends = [at for at in map(bare.find, "<>=~@") if at >= 0]
    return bare[: min(ends, default=len(bare))]


def display_key(name: str) -> tuple[str, str]:
    """The order in which apk ≥ 2.14 lists packages: without regard to the case of ASCII letters first."""
    return name.translate(_LOWER), name
