# SPDX-License-Identifier: Apache-2.0
"""
What the threads of a run want of the processors, and what is done while only one of them wants any (Linux).

    python -m bench.threads patch -i oci:DIR:TAG --to oci:OTHER:1 --cache-dir EMPTY

A thread counts as busy while it runs or waits for a processor, so other load on the machine matters little: the first
line says how long the run would take on two idle processors, without what it waits for from elsewhere.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from types import FrameType

INTERVAL = 0.004
MOMENT = 0.0002
"""Seconds of one interval below which a thread wasn't busy."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A thread in one interval."""

    share: float
    """Of the interval, in which it ran or wanted to."""
    seconds: float
    """In which it ran."""
    what: str


class Sampler(threading.Thread):
    """Looks at all threads again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self.intervals: list[list[Busy]] = []

    def run(self) -> None:
        before, at = _times(), time.perf_counter()
        while not self._ended.wait(INTERVAL):
            after, now = _times(), time.perf_counter()
            frames = sys._current_frames()  # noqa: SLF001 - it is what there is
            known = {t.native_id: (t.name, frames.get(t.ident or 0)) for t in threading.enumerate()}
            busy = []
            for thread, (ran, waited) in after.items():
                ran_before, waited_before = before.get(thread, (0.0, 0.0))
                seconds, wanted = ran - ran_before, ran - ran_before + waited - waited_before
                if thread != self.native_id and wanted > MOMENT:
                    busy.append(Busy(wanted / (now - at), seconds, _describe(*known.get(thread, ("?", None)))))
            self.intervals.append(busy)
            before, at = after, now

    def finish(self) -> None:
        self._ended.set()
        self.join()


def _times() -> dict[int, tuple[float, float]]:
    """Return for each thread how long it has run, and how long it has waited for a processor, in seconds."""
    found = {}
    for name in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{name}/schedstat", encoding="ascii") as file:
                ran, waited, _ = file.read().split()
        except OSError:  # it has ended
            continue
        found[int(name)] = int(ran) / 1e9, int(waited) / 1e9
    return found


def _describe(name: str, frame: FrameType | None) -> str:
    """Name a thread, and the two innermost of our functions that it is in."""
    ours: list[str] = []
    while frame is not None and len(ours) < 2:
        path, mark, module = frame.f_code.co_filename.rpartition("copacetic/")
        if mark:
            ours.append(f"{module.removesuffix('.py')}:{frame.f_code.co_name}")
        elif "importlib" in path + module and "import" not in ours:
            ours.append("import")
        frame = frame.f_back
    return f"{name.rstrip('0123456789_-')}: {' < '.join(ours)}"


def report(intervals: list[list[Busy]]) -> None:
    wall = processor = alone = 0.0
    lonely: dict[str, float] = defaultdict(float)
    for busy in intervals:
        ran, wanted = sum(one.seconds for one in busy), sum(one.share for one in busy)
        processor += ran
        wall += ran / min(max(wanted, 1), 2)
        if wanted < 1.4:
            alone += ran
            for one in busy:
                lonely[one.what] += one.seconds
    print(f"{wall:.2f} s on two idle processors, of {processor:.2f} s of processor time; {alone:.2f} s alone:")
    for what, seconds in sorted(lonely.items(), key=lambda item: -item[1])[:40]:
        print(f"{seconds * 1000:7.0f} ms  {what}")


def main() -> None:
    sampler = Sampler()
    sampler.start()
    from copacetic.cli import main as run

    code = run(sys.argv[1:])
    sampler.finish()
    report(sampler.intervals)
    sys.exit(code)


if __name__ == "__main__":
    main()
