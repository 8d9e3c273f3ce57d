# SPDX-License-Identifier: Apache-2.0
"""
Control files: stanzas of `Field: value`, as in deb822(5).

Parsing is strict and bounded: this text comes from images and repositories. A stanza keeps its order of fields and
its text, so that what isn't changed is written back byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Deb822Error", "Stanza", "find_package", "format_stanza", "index_packages", "parse_stanza", "parse_stanzas"]

_FIELD = re.compile(r"([!-,./0-9;-~][!-9;-~]*):[ \t]*(.*)")
_MAX_FIELDS = 500


class Deb822Error(ValueError):
    """The text is no control file; the message names the line. Callers add which file it is."""


@dataclass(frozen=True, slots=True)
class Stanza:
    """One paragraph. Names are case-insensitive; values have their continuation lines, without the first space."""

    fields: Mapping[str, str]
    """By the name's own spelling, in order."""
    text: str
    """As it was read, without the empty line after it."""

    def find(self, name: str, default: str = "") -> str:
        """Return a field's value, whatever the case of its name."""
        value = self.fields.get(name)
        if value is not None:
            return value
        folded = name.lower()
        return next((value for key, value in self.fields.items() if key.lower() == folded), default)


def parse_stanzas(text: str, *, comments: bool = False) -> Iterator[Stanza]:
    """
    Yield the stanzas of a file. `comments` says that lines starting with `#` are none of the data.

    Raises `Deb822Error`, naming the line.
    """
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
    for number, line in enumerate(lines, start=start):
        if line[0] in " \t":
            if not name:
                raise Deb822Error(f"line {number}: a continuation of nothing")
            fields[name] += "\n" + line[1:]
            continue
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
    return Stanza(fields=fields, text="\n".join(lines))


def index_packages(data: bytes) -> bytes:
    """
    Make a table of where each package's stanza stands in a big file, without parsing it; see `find_package`.

    Stanzas that don't begin with `Package`, as repositories write them, cost more time and are found all the same.
    """
    rows: list[bytes] = []
    regular = data.count(b"\n\nPackage: ") + data.startswith(b"Package: ") == data.rstrip(b"\n").count(b"\n\n") + 1
    start = 0
    while start < len(data):
        end = data.find(b"\n\n", start) + 1 or len(data)
        at = start if regular else _package_line(data, start, end)
        if at is not None:
            rows.append(b"%b %d %d" % (data[at + 9 : data.find(b"\n", at)].strip(), start, end))
        start = end + 1
    rows.sort()
    return b"\n" + b"\n".join(rows) + b"\n"


def _package_line(data: bytes, start: int, end: int) -> int | None:
    if data.startswith(b"Package: ", start):
        return start
    at = data.find(b"\nPackage: ", start, end)
    return at + 1 if at >= 0 else None


def find_package(table: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in bytes of every stanza of a package, from the table of `index_packages`."""
    key = f"\n{name} ".encode()
    at = table.find(key)
    while at >= 0:
        start, _, end = table[at + len(key) : table.find(b"\n", at + 1)].partition(b" ")
        yield int(start), int(end)
        at = table.find(key, at + 1)


def format_stanza(fields: Iterable[tuple[str, str]]) -> str:
    """Write a stanza; continuation lines get their leading space back."""
    return "\n".join(
        f"{name}: {lines[0]}".rstrip(" ") + "".join(f"\n {line}" for line in lines[1:])
        for name, value in fields
        if (lines := value.split("\n"))
    )
