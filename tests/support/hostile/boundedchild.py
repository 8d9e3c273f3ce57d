# SPDX-License-Identifier: Apache-2.0
"""
Runs one thing at a time in a process of its own, within bounds of processor time and memory.

    with BoundedChild() as child:
        outcome = child.run("support.hostile.hostileimages", "tar", "negative-size", 1)

The child imports once and forks for each thing: first a process that makes the input, which may cost what it likes,
then one that is measured.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from copacetic.errors import CopaError

CPU_LIMIT = 5
MEMORY_LIMIT = 400 * 1024**2
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Bounded:
    """How it ended: `done`, `refused` (one of our own errors), or anything else, which is a defect."""

    how: str
    message: str
    seconds: float
    memory: int
    """The peak, in bytes, of what was resident."""

    def check(self) -> None:
        """It came to an end of ours, within what any input may cost."""
        assert self.how in {"done", "refused"}, self.message
        assert self.seconds < CPU_LIMIT
        assert self.memory < MEMORY_LIMIT


class BoundedChild:
    def __enter__(self) -> Self:
        environment = os.environ | {"MALLOC_ARENA_MAX": "1", "PYTHONPATH": f"{_ROOT}:{_ROOT.parent}"}
        command = [sys.executable, "-m", "support.hostile.boundedchild"]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def run(self, module: str, *arguments: str | int) -> Bounded:
        """Give the result of `module.make(folder, *arguments)` to `module.use(folder, *arguments)`, and measure that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([module, *arguments]) + "\n")
        self._process.stdin.flush()
        return Bounded(**json.loads(self._process.stdout.readline()))


def _serve() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_run(*json.loads(line))) + "\n")
        sys.stdout.flush()


def _run(name: str, *arguments: Any) -> dict[str, Any]:
    module = importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        made = _forked(lambda: module.make(Path(folder), *arguments), bounded=False)
        if made["how"] != "done":
            return made
        return _forked(lambda: module.use(Path(folder), *arguments), bounded=True)


def _forked(work: Any, *, bounded: bool) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        if bounded:
            _bound()
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(_outcome(work)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    outcome = json.loads(said) if said else {"how": f"ended with {status}", "message": ""}
    seconds = usage.ru_utime + usage.ru_stime
    return outcome | {"seconds": seconds, "memory": usage.ru_maxrss * 1024}


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Bound this process meanwhile: what grows without end fails, before the machine ends something else for it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY_LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _address_space() -> int:
    """What there is already is Python's own, its libraries' and the threads'."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _bound() -> None:
    size = _address_space() + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (4 * CPU_LIMIT, 4 * CPU_LIMIT))


def _outcome(work: Any) -> dict[str, str]:
    try:
        return {"how": "done", "message": str(work() or "")}
    except CopaError as error:
        return {"how": "refused", "message": f"{type(error).__name__}: {error}"}
    except BaseException:  # noqa: BLE001 - the one who asked decides what it means
        return {"how": "failed", "message": traceback.format_exc()[-2_000:]}


if __name__ == "__main__":
    _serve()
