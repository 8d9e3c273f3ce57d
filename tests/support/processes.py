# SPDX-License-Identifier: Apache-2.0
"""Processes that others have started; threads and processes may end while one looks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["children_of", "descendants_of"]


def children_of(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started and that are there."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """Return them with all that they have started."""
    direct = children_of(pid)
    return direct + [further for one in direct for further in descendants_of(one)]
