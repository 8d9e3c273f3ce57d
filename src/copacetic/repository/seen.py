# SPDX-License-Identifier: Apache-2.0
"""
The newest date that was seen of each repository, so that nobody leads back to an older one that is still valid.

A date counts for whom it was vouched by a key that he trusts himself: an image with a key of its own can't make a
repository look old to others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

import msgspec

from copacetic.cache import Bucket, Cache
from copacetic.errors import RolledBackRepositoryError

__all__ = ["CLOCK_SKEW", "SeenDates"]

SEEN_VERSION = 1
CLOCK_SKEW = timedelta(hours=24)
"""How far clocks may differ."""
_MAX_KEYS = 32


class SeenDates:
    """What the cache remembers; `allow` is the user's word that going back is fine."""

    def __init__(self, cache: Cache, *, now: datetime, allow: bool) -> None:
        self._bucket: Bucket = cache.bucket("repository-dates", version=SEEN_VERSION)
        self._now = now
        self._allow = allow

    def hold(self, where: str, date: datetime | None, *, key: str, trusted: AbstractSet[str]) -> str:
        """
        Remember what `key` says of a repository, named without credentials. Returns what is to be shown when it went
        back and that is allowed.

        Raises `RolledBackRepositoryError` when one of the trusted keys has vouched for a newer state before; no date
        is older than any.
        """
        name = hashlib.sha256(where.encode()).hexdigest()
        with self._bucket.lock(name):
            dates = self._read(name)
            seconds = int(date.timestamp()) if date is not None else 0
            newest = max((seen for by, seen in dates.items() if by in trusted), default=0)
            if seconds < newest:
                return self._went_back(where, date, newest)
            in_time = date is not None and date <= self._now + CLOCK_SKEW
            if seconds > dates.get(key, 0) and in_time and (key in dates or len(dates) < _MAX_KEYS):
                self._bucket.write(name, msgspec.msgpack.encode({**dates, key: seconds}))
        return ""

    def _read(self, name: str) -> dict[str, int]:
        data = self._bucket.read(name)
        try:
            return msgspec.msgpack.decode(data, type=dict[str, int]) if data else {}
        except msgspec.DecodeError:
            return {}

    def _went_back(self, where: str, date: datetime | None, newest: int) -> str:
        of = f"of {date:%Y-%m-%d %H:%M}" if date is not None else "without a date"
        message = f"{where} is {of}, and was of {datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} before"
        if not self._allow:
            raise RolledBackRepositoryError(message)
        return f"{message}: allowed by --allow-repository-rollback"
