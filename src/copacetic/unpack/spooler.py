# SPDX-License-Identifier: Apache-2.0
"""Packages' payloads, decompressed in the background into files of their own: begun early, waited for late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from copacetic.budget import Slots, give_up
from copacetic.errors import PackageError

__all__ = ["Spooler"]

_Entry = TypeVar("_Entry")


class Spooler(Generic[_Entry]):
    """
    Runs jobs side by side, each once, whichever way it is asked for.

    A job gets the file to write, which doesn't exist, and returns what is in it.
    """

    def __init__(self, processors: Slots) -> None:
        self._processors = processors
        self._work: dict[str, Future[tuple[_Entry, ...]]] = {}
        self._lock = Lock()
        self._started = 0
        self._written = self._limit = 0

    def start(self, jobs: Mapping[str, Callable[[Path], tuple[_Entry, ...]]], scratch: Path, *, limit: int) -> None:
        """
        Begin what was not begun before, in the order given, whatever the order in which the jobs came before: the
        largest first leaves no worker alone with it.

        `limit` is for all files together, in bytes, and may grow: the job that goes beyond it fails with a
        `PackageError`.
        """
        self._limit = max(self._limit, limit)
        for key, job in jobs.items():
            if key not in self._work or self._work[key].cancel():
                path = scratch / f"{self._started}.payload"
                self._started += 1
                self._work[key] = self._processors.submit(self._run, job, path)

    def wait(self, key: str) -> tuple[_Entry, ...]:
        """Return what a job found, or raise what it raised."""
        return self._work[key].result()

    def close(self) -> None:
        """Give up what hasn't begun, and wait for the rest: nothing is written after this."""
        give_up(self._work.values())
        self._work.clear()
        self._written = self._limit = 0

    def _run(self, job: Callable[[Path], tuple[_Entry, ...]], path: Path) -> tuple[_Entry, ...]:
        if self._written > self._limit:
            raise PackageError(f"the packages unpack to more than {self._limit} bytes together")
        entries = job(path)
        with self._lock:
            self._written += path.stat().st_size if path.exists() else 0
        if self._written > self._limit:
            path.unlink()
            raise PackageError(f"the packages unpack to more than {self._limit} bytes together")
        return entries
