# SPDX-License-Identifier: Apache-2.0
"""What was solved already, by everything that it depends on; the oldest goes first when there is much."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator

__all__ = ["Outputs", "Results"]

Outputs = tuple[tuple[str, ...], ...]
"""For each output of a vertex its layer directories, the lowest first."""


class Results:
    """Thread-safe: two solves of one thing at once do it once."""

    def __init__(self, *, keep: int = 64) -> None:
        self._keep = keep
        self._known: OrderedDict[str, Outputs] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Nothing is dropped meanwhile."""
        with self._guard:
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1

    @property
    def in_use(self) -> bool:
        return self._users > 0

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep others from doing the same."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            yield

    def get(self, key: str) -> Outputs | None:
        with self._guard:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: str, outputs: Outputs) -> None:
        with self._guard:
            self._known[key] = outputs

    def drop_old(self) -> set[str]:
        """Forget what exceeds the number to keep, unless somebody uses something; return layers without a use."""
        with self._guard:
            if self._users or len(self._known) <= self._keep:
                return set()
            dropped: set[str] = set()
            while len(self._known) > self._keep:
                key, outputs = self._known.popitem(last=False)
                self._locks.pop(key, None)
                dropped.update(layer for output in outputs for layer in output)
            kept = {layer for outputs in self._known.values() for output in outputs for layer in output}
            return dropped - kept
