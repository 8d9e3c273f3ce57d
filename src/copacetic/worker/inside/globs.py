# SPDX-License-Identifier: Apache-2.0
"""Wildcards in paths as Go's `path/filepath` has them: none matches a slash, a backslash takes their meaning."""

from __future__ import annotations

import re

__all__ = ["has_wildcards", "pattern_of"]


def has_wildcards(path: str) -> bool:
    return any(character in path for character in "*?[\\")


def pattern_of(glob: str) -> re.Pattern[str]:
    """Raises `ValueError` for a broken one."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        character = glob[at]
        at += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            end = _end_of_class(glob, at)
            inner = glob[at:end].replace("[", "\\[")
            parts.append(f"(?!/)[{inner}]")
            at = end + 1
        elif character == "\\":
            if at == len(glob):
                raise ValueError(glob)
            parts.append(re.escape(glob[at]))
            at += 1
        else:
            parts.append(re.escape(character))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise ValueError(glob) from error


def _end_of_class(glob: str, at: int) -> int:
    first = at
    while at < len(glob):
        if glob[at] == "\\":
            at += 1
        elif glob[at] == "]" and at > first and glob[first:at] != "^":
            return at
        at += 1
    raise ValueError(glob)
