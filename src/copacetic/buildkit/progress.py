# SPDX-License-Identifier: Apache-2.0
"""
What a builder tells about a running solve: passed on as events, and the end of it kept for the message of a failure.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from copacetic.llb.lastwords import LastWords
from copacetic.llb.solver import Event, EventKind, Events

__all__ = ["BuildLog"]

_VERTICES = 10_000


class BuildLog:
    """Fed with the builder's status messages by one thread; asked by another."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = Lock()
        self._names: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._said: dict[str, LastWords] = {}

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

    def lines(self, vertex: str) -> tuple[str, ...]:
        """Return what is kept of what a vertex has printed."""
        with self._lock:
            return self._said[vertex].lines() if vertex in self._said else ()

    def last(self, vertex: str) -> str:
        """Return the last lines that a vertex has printed, with the one that names the cause."""
        with self._lock:
            return self._said[vertex].show() if vertex in self._said else ""

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
            if digest not in self._said and len(self._said) >= _VERTICES:
                return
            self._said.setdefault(digest, LastWords()).add(text)
        self._events(Event(kind=EventKind.LOG, vertex=digest, name=self.name(digest), text=text))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
