# SPDX-License-Identifier: Apache-2.0
"""Processes below others, as the kernel tells them; what ends meanwhile is none."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from os import kill
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Return the processes that a process, or a thread of it, has started."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that has ended
                found += map(int, (task / "children").read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    direct = children_of(pid)
    return direct + [further for one in direct for further in descendants_of(one)]


def first_child_of(pid: int) -> int | None:
    """Return the first process that another one has started."""
    return next(iter(children_of(pid)), None)


def command_of(pid: int) -> list[str]:
    """Return a process's words; one that only waits to be reaped has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def stop_inside(process: subprocess.Popen[bytes], *, limit: float) -> None:
    """
    End what `unshare` runs politely, and kill it after some seconds; `unshare` itself takes no signal but the last one,
    which ends all inside.
    """
    if child := first_child_of(process.pid):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            kill(child, signal.SIGTERM)
            process.wait(limit)
    process.kill()
    process.wait()
