# SPDX-License-Identifier: Apache-2.0
"""Packages' payloads, decompressed in the background into files of their own: begun early, waited for late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["Spooler"]

_WORKERS = 2
_Entry = TypeVar("_Entry")


class Spooler(Generic[_Entry]):
    """
    Runs jobs side by side, each once, whichever way it is asked for.

    A job gets the file to write, which doesn't exist, and returns what is in it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._work: dict[str, Future[tuple[_Entry, ...]]] = {}

    def start(self, jobs: Mapping[str, Callable[[Path], tuple[_Entry, ...]]], scratch: Path) -> None:
        """Begin what was not begun before, in the order given: the largest first leaves no worker alone with it."""
        self._pool = self._pool or ThreadPoolExecutor(_WORKERS, thread_name_prefix="spool")
        for key, job in jobs.items():
            if key not in self._work:
                self._work[key] = self._pool.submit(job, scratch / f"{len(self._work)}.payload")

    def wait(self, key: str) -> tuple[_Entry, ...]:
        """Return what a job found, or raise what it raised."""
        return self._work[key].result()

    def close(self) -> None:
        """Give up what hasn't begun, and wait for the rest: nothing is written after this."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._work.clear()
