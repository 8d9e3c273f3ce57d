# SPDX-License-Identifier: Apache-2.0
"""
A control group for one run, where one can be had: the only thing that bounds root's processes at once.

In version 2 a group with processes in it can't be divided, so it is made beside the one that we are in, and has no more
than that one. Only root of a machine gets it; for everybody else there are other means, and whoever watches.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping

__all__ = ["ControlGroup"]

_ROOT = "/sys/fs/cgroup"
_NAME = "copacetic-"


class ControlGroup:
    """Made before the run, entered by its first process, and removed after its end."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """None is no error. `limits` are by the names of the files in a group."""
        self._path = ""
        for parent, own in _parents():
            with contextlib.suppress(OSError):
                _remove_left_behind(parent)
                path = os.path.join(parent, f"{_NAME}{os.getpid()}-{secrets.token_hex(4)}")
                os.mkdir(path)
                written = [_write(path, name, min(value, _most(own, name))) for name, value in limits.items()]
                if any(written):
                    self._path = path
                    return
                os.rmdir(path)

    def enter(self) -> None:
        """Move this process there, and with it all that it is going to start."""
        if self._path:
            _write(self._path, "cgroup.procs", 0)

    def remove(self) -> None:
        """When all that was in it has ended."""
        if self._path:
            with contextlib.suppress(OSError):
                os.rmdir(self._path)


def _parents() -> list[tuple[str, str]]:
    """Where a group can be made, and ours: in the version that is in use, or in the older one for processes alone."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, kinds, path = line.rstrip("\n").split(":", 2)
            if ".." in path.split("/"):
                continue  # outside of what is seen here
            if not kinds and os.path.exists(f"{_ROOT}/cgroup.controllers"):
                found.append((f"{_ROOT}{os.path.dirname(path)}", f"{_ROOT}{path}"))
            elif "pids" in kinds.split(","):
                found.append((f"{_ROOT}/pids{path}", f"{_ROOT}/pids{path}"))
    return found


def _remove_left_behind(parent: str) -> None:
    """Of runs that were killed; a group with somebody in it can't be removed."""
    for name in os.listdir(parent):
        if name.startswith(_NAME):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(parent, name))


def _most(own: str, name: str) -> int:
    text = ""
    if name.endswith(".max"):
        with contextlib.suppress(OSError), open(os.path.join(own, name), encoding="ascii") as file:
            text = file.read(64).strip()
    return int(text) if text.isdigit() else 1 << 60


def _write(path: str, name: str, value: int) -> bool:
    try:
        handle = os.open(os.path.join(path, name), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(handle, b"%d" % value)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
