# SPDX-License-Identifier: Apache-2.0
"""Lines as Unix has them."""

from __future__ import annotations

__all__ = ["split_lines"]


def split_lines(text: str) -> list[str]:
    """
    Split at line feeds, and nowhere else; what ends with one has no empty line after it.

    `str.splitlines` also ends a line at form feeds, U+0085, U+2028 and more. In a file that is written anew, as
    `etc/passwd`, a name with one of those would become a line of its own.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]
