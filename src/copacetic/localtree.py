# SPDX-License-Identifier: Apache-2.0
"""A directory of this machine that a graph may use, walked without following a link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

__all__ = ["walk_tree"]


def walk_tree(root: Path, include: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """
    Yield the entries below, directories before what is in them, names in the order of their bytes.

    With `include`, patterns as in .dockerignore, only what matches and the directories that lead there. Raises
    `OSError`.
    """
    chosen: set[str] | None = None
    if include:
        chosen = set()
        for relative, _ in _walk_all(root, ""):
            if any(_pattern(one).fullmatch(relative) for one in include):
                parts = relative.split("/")
                chosen.update("/".join(parts[: length + 1]) for length in range(len(parts)))
    for relative, status in _walk_all(root, ""):
        if chosen is None or relative in chosen:
            yield relative, status


def _walk_all(root: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(root / below) as entries:
        listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in listed:
        relative = f"{below}/{entry.name}" if below else entry.name
        yield relative, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk_all(root, relative)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """`*` and `?` within one name, `**` over any; what is in a matching directory matches."""
    expression = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", text.strip("/")):
        expression += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return re.compile(f"{expression}(?:/.*)?", re.DOTALL)
