# SPDX-License-Identifier: Apache-2.0
"""
The only writer to the terminal: progress, notes, errors, and the summary. All of it goes to stderr.

On a terminal progress is live; anywhere else it is one plain line for each step. Text from images and repositories
is made printable before it is shown.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from copacetic.printable import printable
from copacetic.progress import Named, Progress, Task
from copacetic.tables import doubt_lines, format_size, outcome_lines

if TYPE_CHECKING:
    from copacetic.pipeline.outcome import Outcome

_MIN_SHOWN = 0.05
"""Steps shorter than this (in seconds) don't get a plain line of their own."""


def format_error(message: str, hint: str | None) -> str:
    """Return an error as people see it, in one or two lines."""
    text = f"error: {printable(message)}"
    return f"{text}\nhint: {printable(hint)}" if hint else text


class _PlainTask:
    """Counts what is done."""

    def __init__(self) -> None:
        self.done = 0
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self.done += amount


class _LiveTask:
    def __init__(self, bar: Any, identity: Any) -> None:
        self._bar = bar
        self._identity = identity

    def advance(self, amount: int) -> None:
        self._bar.advance(self._identity, amount)


class Console:
    """A `Progress` on stderr; entered before the work, left after it."""

    def __init__(self, *, mode: str, color: bool, plain: bool) -> None:
        live = mode == "tty" or (mode == "auto" and sys.stderr.isatty() and not plain)
        self._mode = "tty" if live else "plain" if mode == "auto" else mode
        self._color = color
        self._bar: Any = None
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.destination = ""
        """What may be there from now on."""
        self.reference = ""
        """What is there for certain."""

    def __enter__(self) -> Self:
        if self._mode == "tty":
            self._bar = _make_bar(color=self._color)
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def task(self, label: str, *, total: int | None = None) -> Iterator[Task]:
        label = printable(label)
        if self._bar is not None:
            identity = self._bar.add_task(label, total=total)
            try:
                yield _LiveTask(self._bar, identity)
            finally:
                self._bar.update(identity, total=1, completed=1)
                self._bar.stop_task(identity)
            return
        task = _PlainTask()
        started = time.monotonic()
        self._event("start", label, total=total)
        yield task
        seconds = time.monotonic() - started
        self._event("done", label, total=total, seconds=seconds)
        if self._mode == "plain" and (seconds >= _MIN_SHOWN or task.done):
            amount = f"  {format_size(task.done)}" if task.done else ""
            self._line(f"{label}  {seconds:.2f} s{amount}")

    def note(self, text: str) -> None:
        self._event("note", printable(text))
        if self._mode in {"plain", "tty"}:
            self._line(f"note: {printable(text)}")

    def publishing(self, name: str) -> None:
        self.destination = name

    def published(self, reference: str) -> None:
        self.reference = reference

    def child(self, name: str) -> Progress:
        return Named(self, name)

    def show_outcome(self, outcome: Outcome) -> None:
        """Show the summary: before and after, what stays open, where it went. What wasn't verified is always said."""
        if self._mode in {"plain", "tty"}:
            for line in outcome_lines(outcome):
                self._line(line)
            return
        for line in doubt_lines(outcome):
            self._event("warning", line)
            if self._mode != "rawjson":
                self._line(line)

    def _event(self, kind: str, label: str, **values: Any) -> None:
        if self._mode == "rawjson":
            at = round(time.monotonic() - self._started, 3)
            self._line(json.dumps({"at": at, "event": kind, "text": label, **values}))

    def _line(self, text: str) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()


def _make_bar(*, color: bool) -> Any:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = RichConsole(stderr=True, no_color=not color)
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Bar(*columns, console=console, transient=False)


_: type[Progress] = Console
