# SPDX-License-Identifier: Apache-2.0
"""What a solver tells becomes tasks that say what is run, and what isn't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from copacetic.llb.solver import Event, EventKind
from copacetic.pipeline.apply.solvelog import SolveLog
from copacetic.progress import Silent, Task


class Told(Silent):
    """Remembers when tasks begin and end."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, label: str, *, total: int | None = None) -> Iterator[Task]:
        self.lines.append(f"begin {label}")
        with super().task(label, total=total) as task:
            yield task
        self.lines.append(f"end {label}")


def _tell(*kinds: str) -> list[str]:
    told = Told()
    with SolveLog(told) as log:
        for kind in kinds:
            log(Event(kind=kind, vertex="sha256:1", name="apk upgrade"))
    return told.lines


def test_what_is_run_is_a_task_from_its_start_to_its_end() -> None:
    assert _tell(EventKind.STARTED, EventKind.COMPLETED) == ["begin apk upgrade", "end apk upgrade"]


def test_what_is_known_is_told_as_known() -> None:
    assert _tell(EventKind.CACHED) == ["begin apk upgrade (known)", "end apk upgrade (known)"]


def test_what_a_builder_starts_and_then_finds_to_be_known_is_told_as_known_before_it_ends() -> None:
    assert _tell(EventKind.STARTED, EventKind.CACHED) == [
        "begin apk upgrade",
        "begin apk upgrade (known)",
        "end apk upgrade (known)",
        "end apk upgrade",
    ]


def test_what_is_left_unfinished_ends_with_the_solve() -> None:
    assert _tell(EventKind.STARTED) == ["begin apk upgrade", "end apk upgrade"]
