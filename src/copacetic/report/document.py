# SPDX-License-Identifier: Apache-2.0
"""
JSON documents of scanners, typed by what is read of them.

A format declares the shape of what it needs as `Shape`s; all else is skipped without being built. A field whose type
a row may get wrong is `object`, and looked at by the grammar.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from copacetic.errors import ReportError

__all__ = ["Shape", "at", "decode", "has", "is_list", "sketch", "texts"]

_T = TypeVar("_T")
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]')
"""A text, which may go on past the end, or a sign of the structure."""
_MOST_TEXTS = 100
_CLOSING = {b"{": b"}", b"[": b"]"}


class Shape(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An object of a report; every field has a default."""


def at(value: object, *path: str | int) -> Any:
    """Return what lies at a path of keys and positions in a decoded value; None where there is nothing."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def has(value: object, *keys: str) -> bool:
    """Tell whether a decoded value is an object with all of these keys."""
    return isinstance(value, dict) and all(key in value for key in keys)


def is_list(data: bytes) -> bool:
    """Tell whether a document is an array."""
    return data[:256].lstrip().startswith(b"[")


def texts(value: object) -> list[str]:
    """Return the texts at a list's beginning, none for anything else."""
    return [text for text in value[:_MOST_TEXTS] if isinstance(text, str)] if isinstance(value, list) else []


def decode(data: bytes, shape: type[_T], what: str) -> _T:
    """Decode a document. Raises `ReportError`, naming the place at which it isn't `what`."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise ReportError(f"{what} has another form than such reports: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ReportError(f"{what} is not JSON: {error}") from error


@lru_cache(maxsize=2)
def sketch(head: bytes) -> Any:
    """
    Return what the beginning of a JSON document says so far, all that is open being closed; None for anything else.

    It is for recognising a format: what comes after the beginning is missing, and nothing in it is checked.
    """
    try:
        return msgspec.json.decode(head)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    open_brackets: list[bytes] = []
    end, closing = 0, b""
    for token in _TOKEN.finditer(head):
        sign = token[0]
        if sign in _CLOSING:
            open_brackets.append(_CLOSING[sign])
        elif sign in {b"]", b"}"}:
            if not open_brackets:
                return None
            open_brackets.pop()
        elif sign == b",":
            end, closing = token.start(), b"".join(reversed(open_brackets))
    try:
        return msgspec.json.decode(head[:end] + closing)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
