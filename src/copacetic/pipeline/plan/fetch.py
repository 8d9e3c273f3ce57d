# SPDX-License-Identifier: Apache-2.0
"""The files of planned packages, verified and in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from copacetic.repository import Repository
from copacetic.repository.packages import file_digest
from copacetic.updates import Candidate, FetchedPackage, PlannedUpdate

__all__ = ["fetch_packages"]


def fetch_packages(
    repository: Repository, updates: Sequence[PlannedUpdate], arrived: Callable[[FetchedPackage], None] | None = None
) -> tuple[FetchedPackage, ...]:
    """
    Fetch what the updates name; from here on every candidate has the SHA-256 of its file.

    `arrived` is called here, for each package that can be told from others before it is there, as soon as it is.
    """
    if not updates:
        return ()
    by_candidate = {update.candidate: update for update in updates}

    def pass_on(candidate: Candidate, path: Path) -> None:
        if arrived is not None and candidate.sha256:
            arrived(FetchedPackage(update=by_candidate[candidate], path=path))

    paths = repository.fetch([update.candidate for update in updates], pass_on)
    return tuple(FetchedPackage(update=_pinned(u, paths[u.candidate]), path=paths[u.candidate]) for u in updates)


def _pinned(update: PlannedUpdate, path: Path) -> PlannedUpdate:
    if update.candidate.sha256:
        return update
    return replace(update, candidate=replace(update.candidate, sha256=file_digest(path)))
