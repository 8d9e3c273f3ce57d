# SPDX-License-Identifier: Apache-2.0
"""
What a builder tells about a running solve: passed on as events, and the end of it kept for the message of a failure.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any

from copacetic.llb.solver import Event, EventKind, Events

__all__ = ["BuildLog"]

_LINES = 20
_LINE = 300
"""Characters."""
_VERTICES = 10_000


class BuildLog:
    """Fed with the builder's status messages by one thread; asked by another."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = Lock()
        self._names: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._tails: dict[str, deque[str]] = {}

    def add(self, message: Any) -> None:
        """Take a `StatusResponse`."""
        for vertex in message.vertexes:
            self._add_vertex(vertex)
        for log in message.logs:
            self._add_log(_text(log.vertex), _text(log.msg))

    def name(self, vertex: str) -> str:
        """Return what a vertex is called; empty when the builder has not said so."""
        return self._names.get(vertex, "")

    def running(self) -> tuple[str, ...]:
        """Return the names of the vertices that have begun and not ended."""
        with self._lock:
            return tuple(self._names[key] for key, state in self._states.items() if state == EventKind.STARTED)

    def failed(self) -> str:
        """Return the digest of a vertex that failed; empty when none did."""
        with self._lock:
            return next((key for key, state in self._states.items() if state == EventKind.FAILED), "")

    def tail(self, vertex: str) -> tuple[str, ...]:
        """Return the last lines that a vertex has printed."""
        with self._lock:
            lines = list(self._tails.get(vertex, ()))
        return tuple(line.strip() for line in lines if line.strip())

    def _add_vertex(self, vertex: Any) -> None:
        digest, name = _text(vertex.digest), _text(vertex.name)
        if vertex.error:
            state = EventKind.FAILED
        elif vertex.HasField("completed"):
            state = EventKind.CACHED if vertex.cached else EventKind.COMPLETED
        elif vertex.HasField("started"):
            state = EventKind.STARTED
        else:
            state = ""
        with self._lock:
            if digest not in self._names and len(self._names) >= _VERTICES:
                return
            self._names[digest] = name
            before = self._states.get(digest, "")
            self._states[digest] = state or before
        if state and state != before:
            self._events(Event(kind=state, vertex=digest, name=name, text=_text(vertex.error)))

    def _add_log(self, digest: str, text: str) -> None:
        with self._lock:
            if digest not in self._tails and len(self._tails) >= _VERTICES:
                return
            lines = self._tails.setdefault(digest, deque([""], maxlen=_LINES))
            first, *rest = text.split("\n")
            lines[-1] = (lines[-1] + first)[-_LINE:]
            lines.extend(line[-_LINE:] for line in rest)
        self._events(Event(kind=EventKind.LOG, vertex=digest, name=self.name(digest), text=text))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
