# SPDX-License-Identifier: Apache-2.0
"""What a process has started, and ending it where no PID namespace does."""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["find_descendants", "kill_descendants"]

_ROUNDS = 1_000


def kill_descendants() -> None:
    """
    Kill all descendants of this process, which has to be their subreaper, and wait for them.

    They are stopped first, until no new one appears: something that forks as fast as it can is caught, too.
    """
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        new = find_descendants().keys() - stopped
        if not new:
            break
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        stopped |= new
    for _ in range(_ROUNDS):
        for pid in find_descendants():
            _signal(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def find_descendants() -> dict[int, int]:
    """Return the threads of each descendant that still runs, by its number in /proc."""
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read(1024).rpartition(b")")[2].split()
        except OSError:
            continue
        if fields and fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append((int(name), int(fields[17])))
    found: dict[int, int] = {}
    # Which may be another number than our own namespace's.
    pending = [int(os.readlink("/proc/self"))]
    while pending:
        for child, threads in children.get(pending.pop(), ()):
            if child not in found:
                found[child] = threads
                pending.append(child)
    return found
