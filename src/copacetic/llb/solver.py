# SPDX-License-Identifier: Apache-2.0
"""
The seam to whatever solves graphs: BuildKit at any address, the local worker, a fake in tests.

A solver raises `SolverError`s only, publishes nothing, and leaves nothing behind: no mount, no process, no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from copacetic.llb.definition import Definition
from copacetic.oci import Digest, Platform
from copacetic.oci.credentials import Credentials
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.transport import Source

__all__ = ["Capabilities", "Event", "EventKind", "ExportedLayer", "Inputs", "Solved", "Solver"]


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a solver can do, for decisions and for people."""

    name: str
    """Its address, or `worker (user namespace)`."""
    version: str = ""
    platforms: tuple[Platform, ...] = ()
    merge_diff: bool = True
    """Without merge and diff only a whole filesystem can be exported."""
    reason: str = ""
    """Why `merge_diff` is false, and what to do about it."""
    labels: Mapping[str, str] = {}


class Inputs(Struct, frozen=True, kw_only=True):
    """What the client holds ready while a graph is solved; a solver takes only what the graph names."""

    directories: Mapping[str, Path] = {}
    """For `local://NAME`."""
    images: Mapping[str, Source] = {}
    """For `oci-layout://` by store id, and, for solvers without a registry client, `docker-image://` by reference."""
    secrets: Mapping[str, bytes] = {}
    credentials: Callable[[str], Credentials | None] = lambda _registry: None
    """By registry host."""


class EventKind:
    """What an event tells."""

    STARTED = "started"
    CACHED = "cached"
    """Done without work, from an earlier run."""
    COMPLETED = "completed"
    FAILED = "failed"
    LOG = "log"


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a vertex; `vertex` is the digest of its operation."""

    kind: str
    vertex: str
    name: str
    text: str = ""
    """Output of the process, or the failure. Hostile: not yet fit for a terminal."""


Events = Callable[[Event], None]


class ExportedLayer(Struct, frozen=True, kw_only=True):
    """One layer of a result, as a plain tar in a local file."""

    path: Path
    media_type: str
    digest: Digest
    """Of the file."""
    size: int


class Solved(Protocol):
    """A solved filesystem, readable until its context ends."""

    @property
    def filesystem(self) -> ImageFilesystem: ...


class Solver(Protocol):
    """Solves definitions. One object serves many threads; closing it ends everything that still runs."""

    def capabilities(self) -> Capabilities:
        """Ask once, remember the answer. Raises `SolverError` when nobody answers."""
        ...

    def solve(self, definition: Definition, inputs: Inputs, events: Events) -> AbstractContextManager[Solved]:
        """Solve a graph, to read files of the result."""
        ...

    def export(
        self, definition: Definition, inputs: Inputs, events: Events, *, folder: Path
    ) -> tuple[ExportedLayer, ...]:
        """
        Solve a graph and write its layers into a private empty folder, lowest first.

        For `diff(base, upper)` these are the layers above the base: the base itself isn't moved.
        """
        ...

    def close(self) -> None: ...
