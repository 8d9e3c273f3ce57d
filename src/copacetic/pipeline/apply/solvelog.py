# SPDX-License-Identifier: Apache-2.0
"""What a solver does, told to whoever watches: a task for each vertex that is worked on, its output in the log."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, Self

from copacetic.errors import hide_credentials
from copacetic.llb.solver import Event, EventKind
from copacetic.printable import printable
from copacetic.progress import Progress

__all__ = ["KNOWN", "SolveLog"]

_logger = logging.getLogger(__name__)
_MAX_LABEL = 100
KNOWN = " (known)"
"""What the label of a vertex ends with that wasn't run, as its result was there."""


class SolveLog:
    """An `Events` for one solve; leaving it ends what the solver left unfinished."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._running: dict[str, AbstractContextManager[Any]] = {}
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for vertex in list(self._running):
            self._end(vertex)

    def __call__(self, event: Event) -> None:
        if event.kind == EventKind.STARTED:
            self._start(event)
        elif event.kind == EventKind.LOG:
            if _logger.isEnabledFor(logging.DEBUG):  # a process may say millions of lines
                for line in event.text.splitlines():
                    _logger.debug("%s: %s", printable(event.name), printable(line))
        else:
            if event.kind == EventKind.CACHED:
                self._tell_known(event)
            self._end(event.vertex)

    def _tell_known(self, event: Event) -> None:
        """A busy builder says that it starts what it then finds to be known: that it isn't run is told all the same."""
        with self._progress.task(_label(event) + KNOWN):
            pass

    def _start(self, event: Event) -> None:
        with self._lock:
            if event.vertex not in self._running:
                task = self._running[event.vertex] = self._progress.task(_label(event))
                task.__enter__()

    def _end(self, vertex: str) -> None:
        with self._lock:
            task = self._running.pop(vertex, None)
        if task is not None:
            task.__exit__(None, None, None)


def _label(event: Event) -> str:
    return printable(hide_credentials(event.name))[:_MAX_LABEL]
