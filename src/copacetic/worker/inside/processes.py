# SPDX-License-Identifier: Apache-2.0
"""Ending what a process has started, where no PID namespace does it."""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["kill_descendants"]

_ROUNDS = 1_000


def kill_descendants() -> None:
    """
    Kill all descendants of this process, which has to be their subreaper, and wait for them.

    They are stopped first, until no new one appears: something that forks as fast as it can is caught, too.
    """
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        new = _descendants() - stopped
        if not new:
            break
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        stopped |= new
    for _ in range(_ROUNDS):
        for pid in _descendants():
            _signal(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _descendants() -> set[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read(1024).rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(name))
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found
