# SPDX-License-Identifier: Apache-2.0
"""
rpm's package versions: `[epoch:]version[-release]`.

Runs of digits and of letters compare one by one, everything else only separates; `~` sorts before the end of the
string, `^` after the end and before everything else. A version without a release is equal to one with any, as in a
dependency, so such ones sort among themselves only. Values are compared, never normalised.
"""

from __future__ import annotations

import re
from functools import total_ordering

from copacetic.errors import InvalidVersionError

__all__ = ["RpmVersion", "compare_parts"]

_MAX_LENGTH = 1024
_PATTERN = re.compile(r"(?:([0-9]{0,10}):)?([\x21-\x7e]+?)(?:-([\x21-\x2c\x2e-\x7e]+))?")
_MAX_EPOCH = 2**32 - 1
_PIECE = re.compile(r"~|\^|[0-9]+|[A-Za-z]+")

# The kinds of pieces, in their order: what has another kind of piece at the first difference is older or newer by it.
_TILDE, _END, _CARET, _LETTERS, _DIGITS = range(5)
_Key = tuple[tuple[int, int, str], ...]


@total_ordering
class RpmVersion:
    """One version; raises `InvalidVersionError`. Printable ASCII without blanks, as rpm builds them."""

    __slots__ = ("_key", "_release", "_text")

    def __init__(self, text: str) -> None:
        match = _PATTERN.fullmatch(text) if len(text) <= _MAX_LENGTH else None
        epoch = int(match[1] or 0) if match is not None else -1
        if match is None or epoch > _MAX_EPOCH:
            raise InvalidVersionError(f"invalid rpm version {text[:100]!r}")
        self._text = text
        self._key = (epoch, _part_key(match[2]))
        self._release = _part_key(match[3]) if match[3] is not None else None

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"RpmVersion({self._text!r})"

    @property
    def has_release(self) -> bool:
        return self._release is not None

    @property
    def order(self) -> tuple[object, ...]:
        """For sorting many that have a release each; one without comes first."""
        return (*self._key, self._release or ())

    def compare(self, other: RpmVersion) -> int:
        """Return a negative number, 0 or a positive number; a release that only one of them has doesn't count."""
        if self._key != other._key:
            return -1 if self._key < other._key else 1
        if self._release is None or other._release is None or self._release == other._release:
            return 0
        return -1 if self._release < other._release else 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RpmVersion) and self.compare(other) == 0

    def __lt__(self, other: RpmVersion) -> bool:
        return self.compare(other) < 0

    def __hash__(self) -> int:
        return hash(self._key)


def compare_parts(one: str, other: str) -> int:
    """Compare two versions or two releases on their own, as rpm's `vercmp` does, whatever characters they have."""
    first, second = _part_key(one), _part_key(other)
    return -1 if first < second else int(first > second)


def _part_key(text: str) -> _Key:
    key = [_piece_key(piece) for piece in _PIECE.findall(text)]
    key.append((_END, 0, ""))
    return tuple(key)


def _piece_key(piece: str) -> tuple[int, int, str]:
    """A number is compared as rpm does that has no limit: by its length without leading zeros, then by its text."""
    if piece == "~":
        return (_TILDE, 0, "")
    if piece == "^":
        return (_CARET, 0, "")
    if piece[0].isdigit():
        digits = piece.lstrip("0")
        return (_DIGITS, len(digits), digits)
    return (_LETTERS, 0, piece)
