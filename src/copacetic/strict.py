# SPDX-License-Identifier: Apache-2.0
"""What Python's own readers take too much for, or answer with an error that is not ours."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

__all__ = ["read_digits", "split_address"]


def read_digits(text: str, *, most: int) -> int | None:
    """
    Read a number of ASCII digits, at most so many; None for anything else.

    `int` takes signs, blanks, underscores and the digits of every script, and refuses more than 4300 of them.
    """
    return int(text) if len(text) <= most and text.isascii() and text.isdecimal() else None


def split_address(text: str) -> SplitResult | None:
    """Split text that claims to be an address; None where not even that can be done."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return None
    return parts
