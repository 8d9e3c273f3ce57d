# SPDX-License-Identifier: Apache-2.0
"""
How much is done at once, whoever asks: one budget for all images of a session.

There are two kinds of work, and work of a kind never waits for more of the same kind: transfers, and what needs a
processor. What only waits for others (an image's own thread, the other end of a stream) is no work and counts nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

__all__ = ["Budget", "Slots", "give_up"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Slots:
    """So many pieces of work of one kind at once. Threads come when they are needed, and go with this object."""

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., _R], *arguments: object) -> Future[_R]:
        """Begin when there is a slot."""
        with self._lock:  # the first two who ask at once get one pool
            self._pool = self._pool or ThreadPoolExecutor(self.count, thread_name_prefix=self.name)
            return self._pool.submit(work, *arguments)

    def map(
        self, work: Callable[[_T], _R], items: Iterable[_T], each: Callable[[_R], object] | None = None
    ) -> list[_R]:
        """
        Do something with all items, and return the results in their order; `each` gets them as they come, here.

        Raises what the first of them raises that failed. Nothing goes on afterwards, whatever ends this.
        """
        begun = [self.submit(work, item) for item in items]
        try:
            if each is not None:
                for future in as_completed(begun):
                    each(future.result())
            return [future.result() for future in begun]
        finally:
            give_up(begun)

    def close(self) -> None:
        """Give up what hasn't begun, and wait for the rest."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def give_up(work: Iterable[Future[_R]]) -> None:
    """End what hasn't begun, and wait for the rest."""
    begun = list(work)
    for future in begun:
        future.cancel()
    wait(begun)


def _transfers() -> Slots:
    return Slots("transfer", 8)


def _processors() -> Slots:
    return Slots("processor", max(2, min(os.cpu_count() or 2, 16)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a session may do at once."""

    transfers: Slots = field(default_factory=_transfers)
    """Layers, indexes and packages on their way from somewhere, or blobs on their way there."""
    processors: Slots = field(default_factory=_processors)
    """Decompressing packages, compressing a layer."""

    def close(self) -> None:
        self.transfers.close()
        self.processors.close()
