# SPDX-License-Identifier: Apache-2.0
"""
apk's package versions: `number{.number}[letter]{_suffix[number]}[~hash][-rN]`.

Suffixes `alpha beta pre rc` sort before the version without one, `cvs svn git hg p` after it. apk-tools 2 and 3 differ
in what is valid (`~hash` only in 3, 18 digits and more likewise) and in components with leading zeros: in 2 they
sort by their zeros first, in 3 byte by byte. Values are compared, never normalised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import total_ordering
from itertools import zip_longest
from typing import Self

from msgspec import Struct

from copacetic.errors import InvalidVersionError

__all__ = ["Apk2Version", "ApkVersion"]

_MAX_LENGTH = 512
_PRE = ("alpha", "beta", "pre", "rc")
_POST = ("cvs", "svn", "git", "hg", "p")


@total_ordering
class _Version:
    """What both generations have in common."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.compare(other) == 0

    def __lt__(self, other: Self) -> bool:
        return self.compare(other) < 0

    def __hash__(self) -> int:
        raise NotImplementedError

    def compare(self, other: Self, *, fuzzy: bool = False) -> int:
        """Return a negative number, 0 or a positive number; `fuzzy` is the comparison of `~`: the other is a prefix."""
        raise NotImplementedError


# --- apk-tools 2 ------------------------------------------------------------------------------------------------

# Kinds of parts, in the order in which they may follow each other; where two versions go on differently, the lower
# kind is the newer one.
_FRACTION, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER, _REVISION, _END = range(7)
_MAX_DIGITS = 17
_DIGITS = re.compile(r"[0-9]*")
_ZEROS = re.compile(r"0*")
# What may follow although its kind is lower.
_BACK = frozenset({(_NUMBER, _FRACTION), (_SUFFIX_NUMBER, _SUFFIX), (_LETTER, _NUMBER)})


class _Part(Struct, frozen=True):
    value: int
    following: int
    """The kind of the next part."""


class Apk2Version(_Version):
    """A version as apk-tools 2 reads it; raises `InvalidVersionError`."""

    __slots__ = ("_parts",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if not text or len(text) > _MAX_LENGTH or not text.isascii():
            raise InvalidVersionError(f"invalid apk version {text[:100]!r}")
        self._parts = tuple(_scan2(text))

    def __hash__(self) -> int:
        return hash(tuple((part.value, part.following) for part in self._parts))

    def compare(self, other: Self, *, fuzzy: bool = False) -> int:
        for at, (one, two) in enumerate(zip(self._parts, other._parts, strict=False)):
            if one.value != two.value:
                return -1 if one.value < two.value else 1
            if one.following != two.following:
                return 0 if fuzzy else _diverged(self._parts, other._parts, at)
        return 0


def _diverged(one: Sequence[_Part], two: Sequence[_Part], at: int) -> int:
    if one[at].following == _SUFFIX and one[at + 1].value < 0:
        return -1
    if two[at].following == _SUFFIX and two[at + 1].value < 0:
        return 1
    return -1 if one[at].following > two[at].following else 1


def _scan2(text: str) -> Iterator[_Part]:
    kind, at = _NUMBER, 0
    while kind != _END:
        following = -1
        if at >= len(text):
            value = 0  # a separator at the end announces a part that isn't there, which is valid
        elif kind == _FRACTION and text.startswith("0", at):
            # The zeros in front of the last one count on their own, the rest is a number.
            match = _ZEROS.match(text, at)
            zeros = len(match[0]) - 1 if match else 0
            value, at, following = -zeros, at + zeros, _NUMBER
        elif kind == _LETTER:
            value, at = ord(text[at]), at + 1
        elif kind == _SUFFIX:
            value, at = _suffix2(text, at)
        else:
            match = _DIGITS.match(text, at)
            digits = match[0] if match else ""
            if len(digits) > _MAX_DIGITS:
                raise InvalidVersionError(f"invalid apk version {text[:100]!r}: a number of {len(digits)} digits")
            value, at = int(digits or 0), at + len(digits)
        if at >= len(text):
            following = _END
        elif following < 0:
            following, at = _following(text, at, kind)
        yield _Part(value, following)
        kind = following


def _suffix2(text: str, at: int) -> tuple[int, int]:
    for first, names in ((-len(_PRE), _PRE), (0, _POST)):
        for position, name in enumerate(names):
            if text.startswith(name, at):
                return first + position, at + len(name)
    raise InvalidVersionError(f"invalid apk version {text[:100]!r}: an unknown suffix")


def _following(text: str, at: int, kind: int) -> tuple[int, int]:
    """Return the kind of what comes next, and where it starts."""
    char = text[at]
    following, skip = -1, 0
    if kind in {_FRACTION, _NUMBER} and "a" <= char <= "z":
        following = _LETTER
    elif kind == _LETTER and char.isdigit():
        following = _NUMBER
    elif kind == _SUFFIX and char.isdigit():
        following = _SUFFIX_NUMBER
    elif char == ".":
        following, skip = _FRACTION, 1
    elif char == "_":
        following, skip = _SUFFIX, 1
    elif text.startswith("-r", at):
        following, skip = _REVISION, 2
    if following < 0 or (following < kind and (kind, following) not in _BACK):
        raise InvalidVersionError(f"invalid apk version {text[:100]!r}: {text[at:][:40]!r} can't stand there")
    return following, at + skip


# --- apk-tools 3 ------------------------------------------------------------------------------------------------

_FIRST3, _NUMBER3, _LETTER3, _SUFFIX3, _SUFFIX_NUMBER3, _HASH3, _REVISION3, _END3 = range(8)
_SUFFIX_ORDER = {name: order for order, name in enumerate((*_PRE, "", *_POST))}
_NO_SUFFIX = _SUFFIX_ORDER[""]
_WORD = 1 << 64
_TOKEN = re.compile(
    r"(?P<number>\.?[0-9]+)|(?P<letter>[a-z])|_(?P<suffix>[a-z]+)|~(?P<hash>[0-9a-f]+)|-r(?P<revision>[0-9]+)"
)


class _Token(Struct, frozen=True):
    kind: int
    value: int
    text: str = ""


_END_TOKEN = _Token(_END3, 0)


class ApkVersion(_Version):
    """A version as apk-tools 3 reads it; raises `InvalidVersionError`."""

    __slots__ = ("_tokens",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if len(text) > _MAX_LENGTH or not text.isascii():
            raise InvalidVersionError(f"invalid apk version {text[:100]!r}")
        self._tokens = tuple(_scan3(text))

    def __hash__(self) -> int:
        return hash(tuple((token.kind, token.value) for token in self._tokens))

    def compare(self, other: Self, *, fuzzy: bool = False) -> int:
        for one, two in zip_longest(self._tokens, other._tokens, fillvalue=_END_TOKEN):
            if one.kind != two.kind:
                return _diverged3(one, two, fuzzy=fuzzy)
            by_bytes = one.kind == _HASH3 or (
                one.kind == _NUMBER3 and (one.text.startswith("0") or two.text.startswith("0"))
            )
            if by_bytes and one.text != two.text:
                return -1 if one.text < two.text else 1
            if one.value != two.value:
                return -1 if one.value < two.value else 1
        return 0


def _diverged3(one: _Token, two: _Token, *, fuzzy: bool) -> int:
    if fuzzy and two.kind == _END3:
        return 0
    if one.kind == _SUFFIX3 and one.value < _NO_SUFFIX:
        return -1
    if two.kind == _SUFFIX3 and two.value < _NO_SUFFIX:
        return 1
    return -1 if one.kind > two.kind else 1


def _scan3(text: str) -> Iterator[_Token]:
    kind, at = -1, 0
    while at < len(text) or kind < 0:
        match = _TOKEN.match(text, at)
        token = _token3(match, kind) if match is not None else None
        if match is None or token is None:
            raise InvalidVersionError(f"invalid apk version {text[:100]!r}: {text[at:][:40]!r} can't stand there")
        yield token
        kind, at = token.kind, match.end()


def _token3(match: re.Match[str], before: int) -> _Token | None:
    """Return the token, or None where it may not follow."""
    text = match[match.lastgroup or 0]
    what = match.lastgroup
    if what == "number":
        digits = text.lstrip(".")
        if before < 0:
            return _Token(_FIRST3, int(digits) % _WORD, digits) if digits == text else None
        if before <= _NUMBER3 and digits != text:
            return _Token(_NUMBER3, int(digits) % _WORD, digits)
        return _Token(_SUFFIX_NUMBER3, int(digits) % _WORD) if before == _SUFFIX3 and digits == text else None
    if before < 0:
        return None
    if what == "letter" and before <= _NUMBER3:
        return _Token(_LETTER3, ord(text))
    if what == "suffix" and before <= _SUFFIX_NUMBER3 and text in _SUFFIX_ORDER:
        return _Token(_SUFFIX3, _SUFFIX_ORDER[text])
    if what == "hash" and before < _HASH3:
        return _Token(_HASH3, 0, text)
    if what == "revision" and before < _REVISION3:
        return _Token(_REVISION3, int(text) % _WORD)
    return None
