# SPDX-License-Identifier: Apache-2.0
"""The files of planned packages, verified and in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from copacetic.repository import Repository
from copacetic.repository.packages import file_digest
from copacetic.updates import FetchedPackage, PlannedUpdate

__all__ = ["fetch_packages"]


def fetch_packages(repository: Repository, updates: Sequence[PlannedUpdate]) -> tuple[FetchedPackage, ...]:
    """Fetch what the updates name; from here on every candidate has the SHA-256 of its file."""
    if not updates:
        return ()
    paths = repository.fetch([update.candidate for update in updates])
    return tuple(FetchedPackage(update=_pinned(u, paths[u.candidate]), path=paths[u.candidate]) for u in updates)


def _pinned(update: PlannedUpdate, path: Path) -> PlannedUpdate:
    if update.candidate.sha256:
        return update
    return replace(update, candidate=replace(update.candidate, sha256=file_digest(path)))
