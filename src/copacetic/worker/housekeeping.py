# SPDX-License-Identifier: Apache-2.0
"""What the worker keeps in the cache folder between runs: how much it is, and less of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from copacetic.cache import BucketUsage
from copacetic.worker.modes import candidates
from copacetic.worker.store import Store
from copacetic.worker.workshop import FOLDER, Workshop

__all__ = ["prune_worker", "worker_usage"]


def worker_usage(cache: Path) -> tuple[BucketUsage, ...]:
    """Return a row for the layers of each kind of owner, by whose ids the files are."""
    rows = []
    for store in _stores(cache):
        kept = store.kept()
        if kept:
            title = f"{FOLDER}/{store.root.name}/layers"
            rows.append(BucketUsage(name=title, entries=len(kept), size=sum(one.size for one in kept)))
    return tuple(rows)


def prune_worker(cache: Path, *, keep_bytes: int = 0, unused_for: float | None = None) -> int:
    """
    Remove layers by the same rules as `Cache.prune`, and return the bytes freed.

    Raises `UnsupportedBuilderError` where there is something to remove and no sandbox to do it in, `StorageError` for a
    folder that can't be used.
    """
    freed = 0
    for store in _stores(cache):
        if not store.kept():
            continue
        shop = Workshop.open(cache, (), disk_key=store.root.name)
        try:
            total = sum(one.size for one in store.kept())
            for one in store.kept():
                recent = unused_for is not None and time.time() - one.used < unused_for
                if recent or (keep_bytes and total <= keep_bytes):
                    continue
                if store.take(one, shop.run):
                    freed += one.size
                    total -= one.size
        finally:
            shop.close()
    return freed


def _stores(cache: Path) -> Iterator[Store]:
    """Those whose files this user can remove."""
    for key in sorted({mode.disk_key for mode in candidates()[0]}):
        root = cache / FOLDER / key
        if root.is_dir():
            yield Store(root)
