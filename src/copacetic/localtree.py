# SPDX-License-Identifier: Apache-2.0
"""A directory of this machine that a graph may use, walked without following a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["walk_tree"]


def walk_tree(root: Path, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """
    Yield the entries below, directories before what is in them, names in the order of their bytes.

    Raises `OSError`.
    """
    with os.scandir(root / below) as entries:
        listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in listed:
        relative = f"{below}/{entry.name}" if below else entry.name
        yield relative, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from walk_tree(root, relative)
