# SPDX-License-Identifier: Apache-2.0
"""What a process has started, and ending it where no PID namespace does."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple

__all__ = ["Process", "find_descendants", "kill_descendants"]

_ROUNDS = 1_000


def kill_descendants() -> None:
    """
    Kill all descendants of this process, which has to be their subreaper, and wait for them.

    Whole groups are, at one blow: none of a group can start another one meanwhile. The rest, each a group of its own,
    are stopped first, until no new one appears.
    """
    if _own_number() != os.getpid():
        return  # what /proc shows are another namespace's numbers
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        found = find_descendants()
        for group in {one.group for one in found.values()} - {os.getpgrp()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        new = found.keys() - stopped
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


class Process(NamedTuple):
    """What is of interest of one."""

    group: int
    threads: int


def find_descendants() -> dict[int, Process]:
    """Return the descendants that still run, by their numbers in /proc."""
    children: dict[int, list[int]] = {}
    known: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                fields = file.read(1024).rpartition(b")")[2].split()
        except OSError:
            continue
        if fields and fields[0] != b"Z":
            known[int(name)] = Process(int(fields[2]), int(fields[17]))
            children.setdefault(int(fields[1]), []).append(int(name))
    found: dict[int, Process] = {}
    pending = [_own_number()]
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found[child] = known[child]
                pending.append(child)
    return found


def _own_number() -> int:
    """Which may be another one than this process's own namespace has."""
    return int(os.readlink("/proc/self"))
