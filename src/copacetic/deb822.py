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

__all__ = ["Deb822Error", "Stanza", "index_packages", "parse_stanza", "parse_stanzas"]

_FIELD = re.compile(r"([!-,./0-9;-~][!-9;-~]*):[ \t]*(.*)")
_PACKAGE = re.compile(rb"^Package: *([A-Za-z0-9][A-Za-z0-9+.-]*) *$", re.MULTILINE)
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


def index_packages(data: bytes) -> dict[str, list[tuple[int, int]]]:
    """
    Find the stanzas of every package in a big file without parsing them: name → [(start, end), …] in bytes.

    The file is one in which every stanza starts with `Package`, as repositories' and dpkg's own do.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    last: list[tuple[int, int]] | None = None
    for match in _PACKAGE.finditer(data):
        if last is not None:
            last[-1] = (last[-1][0], match.start())
        last = found.setdefault(match[1].decode("ascii"), [])
        last.append((match.start(), len(data)))
    return found


def format_stanza(fields: Iterable[tuple[str, str]]) -> str:
    """Write a stanza; continuation lines get their leading space back."""
    return "\n".join(
        f"{name}: {lines[0]}".rstrip(" ") + "".join(f"\n {line}" for line in lines[1:])
        for name, value in fields
        if (lines := value.split("\n"))
    )
