# SPDX-License-Identifier: Apache-2.0
"""
Debian package versions.

Ordering follows deb-version(7): `[epoch:]upstream[-revision]`, in which `~` sorts before the end of the string and
letters sort before other characters. Values are compared, never normalised: `str(DebVersion(text)) == text`.
"""

from __future__ import annotations

import re
from functools import total_ordering

from copacetic.errors import InvalidVersionError

__all__ = ["DebVersion"]

_MAX_LENGTH = 512
_PATTERN = re.compile(r"(?:(\d{1,10}):)?(\d[A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9.+~]+))?(?<!-)")
_CHUNK = re.compile(r"(\D*)(\d*)")


@total_ordering
class DebVersion:
    """One version; raises `InvalidVersionError`. dpkg's rule that an upstream version starts with a digit holds."""

    __slots__ = ("_key", "_text")

    def __init__(self, text: str) -> None:
        match = _PATTERN.fullmatch(text) if len(text) <= _MAX_LENGTH and text.isascii() else None
        if match is None or (match[1] is None and ":" in text):
            raise InvalidVersionError(f"invalid deb version {text[:100]!r}")
        if match[1] is not None and int(match[1]) > 2**31 - 1:
            raise InvalidVersionError(f"invalid deb version {text[:100]!r}: the epoch is too big")
        self._text = text
        self._key = (int(match[1] or 0), _part_key(match[2]), _part_key(match[3] or "0"))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"DebVersion({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DebVersion) and self._key == other._key

    def __lt__(self, other: DebVersion) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _order(char: str) -> int:
    """The weight of a character that is no digit; the end of a run weighs 0."""
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _part_key(text: str) -> tuple[object, ...]:
    """Alternate weights of non-digits, each run closed by 0, and numbers; an empty number is 0."""
    key: list[object] = []
    for letters, digits in _CHUNK.findall(text):
        if letters or digits:
            key.append((*(_order(char) for char in letters), 0))
            key.append(int(digits or 0))
    key.append((0,))  # the end sorts as an empty run: after `~`, before everything else
    return tuple(key)
