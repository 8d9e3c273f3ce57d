# SPDX-License-Identifier: Apache-2.0
"""
Control files: stanzas of `Field: value`, as in deb822(5).

Parsing is strict and bounded: this text comes from images and repositories. A stanza keeps its order of fields and
its text, so that what isn't changed is written back byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

__all__ = [
    "Deb822Error",
    "PackagesIndexer",
    "Stanza",
    "find_package",
    "format_stanza",
    "parse_stanza",
    "parse_stanzas",
    "stanza_of",
]

_FIELD = re.compile(r"([!-,./0-9;-~][!-9;-~]*):[ \t]*(.*)")
_MAX_FIELDS = 500
MAX_LINES = 1_000_000
"""Of a file: each costs a hundred bytes, however short it is."""
_MAX_STANZA = 1024 * 1024
"""In an index; the longest of Debian's have some 80 KB."""
_WINDOW = 256 * 1024
_PACKAGE = re.compile(rb"(?:\A|\n)Package: *([a-z0-9][a-z0-9+.-]{0,127})[ \t\r]*(?:\n|\Z)")


class Deb822Error(ValueError):
    """The text is no control file; the message names the line. Callers add which file it is."""


class Stanza(Struct, frozen=True):
    """One paragraph. Names are case-insensitive; values have their continuation lines, without the first space."""

    fields: Mapping[str, str]
    """By the name's own spelling, in order."""
    text: str = ""
    """As it was read, without the empty line after it."""

    def find(self, name: str, default: str = "") -> str:
        """Return a field's value, whatever the case of its name."""
        value = self.fields.get(name)
        if value is not None:
            return value
        folded = name.lower()
        return next((value for key, value in self.fields.items() if key.lower() == folded), default)


class _Recorded(Protocol):
    @property
    def record(self) -> object: ...


_NO_STANZA = Stanza(fields={})


def stanza_of(package: _Recorded) -> Stanza:
    """Return the record of a Debian package, installed or offered; one without fields where there is none."""
    record = package.record
    if record is None:
        return _NO_STANZA
    assert isinstance(record, Stanza)
    return record


def parse_stanzas(text: str, *, comments: bool = False) -> Iterator[Stanza]:
    """
    Yield the stanzas of a file. `comments` says that lines starting with `#` are none of the data.

    Raises `Deb822Error`, naming the line.
    """
    if text.count("\n") > MAX_LINES:
        raise Deb822Error(f"more than {MAX_LINES} lines")
    start = 1
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if comments and line.startswith("#"):
            continue
        if line.strip(" \t\r"):
            if not lines:
                start = number
            lines.append(line)
        elif lines:
            yield _stanza(lines, start)
            lines = []
    if lines:
        yield _stanza(lines, start)


def parse_stanza(text: str) -> Stanza:
    """Return the only stanza of a text. Raises `Deb822Error` when there is none, or more than one."""
    stanzas = list(parse_stanzas(text))
    if len(stanzas) != 1:
        raise Deb822Error(f"{len(stanzas)} stanzas instead of one")
    return stanzas[0]


def _stanza(lines: list[str], start: int) -> Stanza:
    fields: dict[str, str] = {}
    seen: set[str] = set()
    name = ""
    more: list[str] = []
    """The continuation of the latest field: joined once, as a text that grows is copied with each line."""

    for number, line in enumerate(lines, start=start):
        if line[0] in " \t":
            if not name:
                raise Deb822Error(f"line {number}: a continuation of nothing")
            more.append(line[1:])
            continue
        if more:
            fields[name] = "\n".join((fields[name], *more))
            more = []
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Deb822Error(f"line {number}: not a field: {line[:80]!r}")
        name = match[1]
        if name.lower() in seen:
            raise Deb822Error(f"line {number}: a second {name}")
        if len(seen) >= _MAX_FIELDS:
            raise Deb822Error(f"line {number}: more than {_MAX_FIELDS} fields")
        seen.add(name.lower())
        fields[name] = match[2].rstrip(" \t\r")
    if more:
        fields[name] = "\n".join((fields[name], *more))
    return Stanza(fields=fields, text="\n".join(lines))


class PackagesIndexer:
    """
    Notes where each package's stanza stands in a big file that comes in pieces, without parsing it.

    Stanzas that don't begin with `Package`, as repositories write them, cost more time and are found all the same;
    those whose name is none are not. Each row takes some 70 bytes, however little stands for it: see `count`.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many stanzas there were so far, of packages or not."""
        self._rows: list[bytes] = []
        self._parts: list[bytes] = []
        """What came of a stanza that may go on."""
        self._size = 0
        """Of `_parts` together."""
        self._due = _WINDOW
        """The size from which it is worth while to look into them."""
        self._at = 0
        """Where `_parts` begin in the file."""

    def feed(self, part: bytes) -> None:
        """Take the next piece of the file. Raises `Deb822Error` for a stanza beyond all measure."""
        self._parts.append(part)
        self._size += len(part)
        if self._size < self._due:
            return
        window = b"".join(self._parts)
        end = window.rfind(b"\n\n")
        if end >= 0:
            self._add(window[:end])
            self._at += end + 2
            window = window[end + 2 :]
        if len(window) > _MAX_STANZA:
            raise Deb822Error(f"a stanza of more than {_MAX_STANZA} bytes")
        self._parts, self._size, self._due = [window], len(window), len(window) + _WINDOW

    def finish(self) -> bytes:
        """Return the table for `find_package`, when all is there."""
        self._add(b"".join(self._parts).removesuffix(b"\n"))
        self._parts = []
        self._rows.sort()
        return b"\n" + b"\n".join(self._rows) + b"\n"

    def _add(self, window: bytes) -> None:
        """Note the stanzas of a text that ends with one, without its last line's end."""
        start = self._at
        add = self._rows.append
        find = _PACKAGE.match
        stanzas = window.split(b"\n\n")
        self.count += len(stanzas)
        for stanza in stanzas:
            end = start + len(stanza) + 1
            match = find(stanza) or (_PACKAGE.search(stanza) if b"\nPackage: " in stanza else None)
            if match is not None:
                add(b"%b %d %d" % (match[1], start, end))
            start = end + 1


def find_package(table: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in bytes of every stanza of a package, from the table of `PackagesIndexer`."""
    key = f"{name} ".encode()
    low, high = 1, len(table)
    while low < high:
        start = table.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = table.find(b"\n", start)
        if table[start:end] < key:
            low = end + 1
        else:
            high = start
    while table.startswith(key, low):
        end = table.find(b"\n", low)
        first, _, last = table[low + len(key) : end].partition(b" ")
        yield int(first), int(last)
        low = end + 1


def format_stanza(fields: Iterable[tuple[str, str]]) -> str:
    """Write a stanza; continuation lines get their leading space back."""
    return "\n".join(
        f"{name}: {lines[0]}".rstrip(" ") + "".join(f"\n {line}" for line in lines[1:])
        for name, value in fields
        if (lines := value.split("\n"))
    )
