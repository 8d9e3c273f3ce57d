# SPDX-License-Identifier: Apache-2.0
"""
Patterns as C programs and shells match them: fnmatch(3) without flags.

Python's own knows neither `[^x]` nor `[[:alpha:]]` nor a backslash that quotes.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["matches_glob", "quote_glob"]

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \t",
    "cntrl": "\0-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \t-\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""As in the C locale, in the form of Python's brackets."""
_CLASS = re.compile(r"\[:([a-z]*):\]")
_NOTHING = r"[^\s\S]"


def matches_glob(text: str, pattern: str) -> bool:
    """Tell whether all of a text matches; `*` and `?` match slashes and leading dots, too."""
    return _compile(pattern).fullmatch(text) is not None


def quote_glob(text: str) -> str:
    """Return a pattern that matches a text alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", text)


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    """Between stars the first match will do: without going back, no pattern takes long."""
    pieces = [""]
    at = 0
    closed = True
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            pieces.append("")
        elif char == "?":
            pieces[-1] += "."
        elif char == "[" and closed:
            found = _bracket(pattern, at)
            # Where one has no end, none after it has.
            closed = found is not None
            expression, at = found or (re.escape(char), at)
            pieces[-1] += expression
        elif char == "\\":
            # One at the end quotes nothing, and such a pattern matches nothing.
            pieces[-1] += re.escape(pattern[at]) if at < len(pattern) else _NOTHING
            at += 1
        else:
            pieces[-1] += re.escape(char)
    first, *others = pieces
    middle = "".join(f"(?>.*?{piece})" for piece in others[:-1] if piece)
    return re.compile(first + middle + (f".*{others[-1]}" if others else ""), re.DOTALL)


def _bracket(pattern: str, at: int) -> tuple[str, int] | None:
    """Return an expression for what stands in brackets, and where it ends; None when nothing closes them."""
    negated = pattern.startswith(("!", "^"), at)
    at += negated
    items: list[str] = []
    unknown = False
    first = at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        if (name := _CLASS.match(pattern, at)) is not None:
            unknown |= name[1] not in _CLASSES
            items.append(_CLASSES.get(name[1], ""))
            at = name.end()
            continue
        low, at = _character(pattern, at)
        high = low
        if pattern.startswith("-", at) and pattern[at + 1 : at + 2] not in {"", "]"}:
            high, at = _character(pattern, at + 1)
        if low <= high:
            items.append(f"{re.escape(low)}-{re.escape(high)}")
    if at >= len(pattern):
        return None
    inner = "".join(items)
    if not inner or (negated and unknown):
        return ("." if negated and not unknown else _NOTHING), at + 1
    return f"[{'^' if negated else ''}{inner}]", at + 1


def _character(pattern: str, at: int) -> tuple[str, int]:
    """Return one character between brackets, quoted or not."""
    at += pattern[at] == "\\" and at + 1 < len(pattern)
    return pattern[at], at + 1
