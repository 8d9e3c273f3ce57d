# SPDX-License-Identifier: Apache-2.0
"""
What a run changed in a tree, without overlayfs: the tree is looked at before and after.

A file is another one, or was changed, when its inode, size or one of its times differ: no program can set the time
of the last change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from copacetic.worker.inside.layerbuilder import LayerBuilder
from copacetic.worker.inside.stack import Stack, join, parent_of

__all__ = ["Snapshot", "capture", "take_snapshot"]

Snapshot = dict[str, tuple[int, ...]]


def take_snapshot(tree: int) -> Snapshot:
    """Look at everything in an open directory."""
    return {path: _key(info) for path, _, info in Stack((tree,)).walk()}


def _key(info: os.stat_result) -> tuple[int, ...]:
    return (info.st_ino, info.st_ctime_ns, info.st_mtime_ns, info.st_size, info.st_mode)


def capture(tree: int, before: Snapshot, builder: LayerBuilder, below: Stack, *, without: Sequence[str]) -> None:
    """
    Put what is new or different in a tree into a layer above `below`, and whiteouts for what is gone.

    The tree's files become the layer's: they are moved, so the tree is of no use any more. Paths in `without`, and
    what is below them, don't count.
    """
    skipped = frozenset(without)
    seen: set[str] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        stack = Stack((tree,))
        for name in sorted(stack.names(folder)):
            path = join(folder, name)
            if path in skipped:
                continue
            found = stack.find(path)
            assert found is not None
            seen.add(path)
            if before.get(path) != _key(found[1]):
                builder.adopt(path, *found, source=path)
            if stat.S_ISDIR(found[1].st_mode):
                pending.append(path)
    for path in sorted(before.keys() - seen):
        if _is_below(path, skipped) or (parent_of(path) and parent_of(path) not in seen):
            continue
        # Where a file took a directory's place, it hides what was in there already.
        info = Stack((tree,)).find(parent_of(path))
        if info is not None and stat.S_ISDIR(info[1].st_mode) and below.find(path) is not None:
            builder.whiteout(join(builder.directory(parent_of(path)), path.rpartition("/")[2]))


def _is_below(path: str, folders: frozenset[str]) -> bool:
    while path:
        if path in folders:
            return True
        path = parent_of(path)
    return False
