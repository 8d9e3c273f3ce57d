# SPDX-License-Identifier: Apache-2.0
"""
Watches how much a program takes: of processes, of memory, of the disk.

The kernel itself bounds what it can (`sandbox.bound_namespaces`, `process.execute`). That leaves what it counts for
everybody together, or not at all without a control group, and few of those who run us can make one. So a run is looked
at ten times a second, and ended. The last of a machine's memory or disk is nobody's.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Mapping, Sequence

from copacetic.worker.inside.processes import find_descendants

__all__ = ["TURN", "Guard", "prefer_for_memory"]

TURN = 0.1
"""Seconds between two looks."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20
_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""What the container around may have, in either version."""


class Guard:
    """`folders` are those in which the program's files become real, all on one disk."""

    def __init__(self, limits: Mapping[str, int], folders: Sequence[str]) -> None:
        self._processes = limits["processes"]
        self._memory = min(limits["memory"], _machine_memory() * 3 // 4)
        self._disk = limits["disk"]
        self._files = limits["files"]
        self._folders = folders
        self._started = time.time()
        self._free = os.statvfs(folders[0])
        self._available, self._total = _memory_left()

    def complaint(self) -> str:
        """Return what there is too much of, as the rest of a sentence; "" when all is well."""
        for look in (self._look_at_processes, self._look_at_disk, self._look_at_machine):
            found: str = look()
            if found:
                return found
        return ""

    def _look_at_processes(self) -> str:
        found = find_descendants()
        if sum(one.threads for one in found.values()) > self._processes:
            return f"had more than {self._processes} processes and threads"
        # What is shared is counted for each first: that is quick, and mostly enough.
        if sum(_resident(pid) for pid in found) > self._memory and sum(_own(pid) for pid in found) > self._memory:
            return f"took more than {_size(self._memory)} of memory"
        return ""

    def _look_at_disk(self) -> str:
        now = os.statvfs(self._folders[0])
        taken = (self._free.f_bavail - now.f_bavail) * now.f_frsize
        if taken > self._disk or self._free.f_ffree - now.f_ffree > self._files:
            # Somebody else may write there, too.
            size, count = _measure(self._folders, self._started)
            if size > self._disk:
                return f"took more than {_size(self._disk)} of the disk"
            if count > self._files:
                return f"made more than {self._files} files"
        if taken > _share(now.f_blocks * now.f_frsize) > now.f_bavail * now.f_frsize:
            return "wrote until the disk is full"
        return ""

    def _look_at_machine(self) -> str:
        """For memory that is in no process: files in memory, messages, buffers."""
        left, _ = _memory_left()
        if self._available - left > _share(self._total) > left:
            return "took the last of this machine's memory"
        return ""


def prefer_for_memory() -> None:
    """Where memory runs out before anybody has looked, let the kernel end this process and its children first."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _share(whole: int) -> int:
    """What has to be left of something."""
    return min(whole // 20, 512 * _MIB)


def _machine_memory() -> int:
    known = [_memory_left()[1]]
    for path in _GROUPS:
        text = _read(path).strip()
        if text.isdigit():
            known.append(int(text))
    return min(known)


def _memory_left() -> tuple[int, int]:
    rows = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    left, whole = (int(rows.get(name, "0 kB").split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    return left, whole or 1 << 60


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def _own(pid: int) -> int:
    """A process's memory, and its part of what it shares."""
    text = _read(f"/proc/{pid}/smaps_rollup")
    row = next((line for line in text.splitlines() if line.startswith("Pss:")), None)
    return int(row.split()[1]) * 1024 if row else _resident(pid)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""


def _measure(folders: Sequence[str], since: float) -> tuple[int, int]:
    """Return the bytes and the number of what was changed in folders lately."""
    size = count = 0
    seen: set[tuple[int, int]] = set()
    pending = list(folders)
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                pending.append(entry.path)
            if info.st_ctime >= since and (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                size += info.st_blocks * 512
                count += 1
    return size, count


def _size(count: int) -> str:
    return f"{count / (1 << 30):g} GiB" if count >= 1 << 30 else f"{count // _MIB} MiB"
