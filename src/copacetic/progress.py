# SPDX-License-Identifier: Apache-2.0
"""
What long work tells whoever watches.

The library prints nothing: it calls a `Progress`, and the console (or a caller's own object) shows it.
All methods may be called from several threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Task(Protocol):
    """One running piece of work; `advance` counts bytes where a total was given in bytes."""

    def advance(self, amount: int) -> None: ...


class Progress(Protocol):
    """Receives what happens while an image is patched."""

    def task(self, label: str, *, total: int | None = None) -> AbstractContextManager[Task]:
        """Announce work; leaving the context ends it. `total` is in bytes, None when unknown."""
        ...

    def note(self, text: str) -> None:
        """Say one line that a user wants to keep: a decision, a refusal, a fallback."""
        ...

    def publishing(self, name: str) -> None:
        """Tell that the result is about to get its name: whoever ends the run from now on may find it there."""
        ...

    def published(self, reference: str) -> None:
        """Tell that the result is there; `reference` is `name@digest`."""
        ...

    def child(self, name: str) -> Progress:
        """Return what is told of one of several images, which it names."""
        ...


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass


class Silent:
    """Shows nothing: the default of the library."""

    def task(self, label: str, *, total: int | None = None) -> AbstractContextManager[Task]:
        return nullcontext(_SilentTask())

    def note(self, text: str) -> None:
        pass

    def publishing(self, name: str) -> None:
        pass

    def published(self, reference: str) -> None:
        pass

    def child(self, name: str) -> Progress:
        return self


class Named:
    """What is told of one image, with its name before each line."""

    def __init__(self, parent: Progress, name: str) -> None:
        self._parent = parent
        self._name = name

    def task(self, label: str, *, total: int | None = None) -> AbstractContextManager[Task]:
        return self._parent.task(f"{self._name}: {label}", total=total)

    def note(self, text: str) -> None:
        self._parent.note(f"{self._name}: {text}")

    def publishing(self, name: str) -> None:
        self._parent.publishing(name)

    def published(self, reference: str) -> None:
        self._parent.published(reference)

    def child(self, name: str) -> Progress:
        return Named(self, name)


_named: type[Progress] = Named
_: type[Progress] = Silent
