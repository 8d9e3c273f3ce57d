# SPDX-License-Identifier: Apache-2.0
"""
How much packages may unpack to. What a package says of itself is no limit: it may say anything.

The figures leave room for whatever Debian has: of 63,000 packages three unpack to more than 150 times their size, all
of them small, and none of more than 10 MB to more than 62 times. A bomb has a factor of 1,000 (gzip) to 30,000 (zstd).
"""

from __future__ import annotations

__all__ = ["MAX_ENTRIES", "SIZE_FLOOR", "payload_limit", "total_limit"]

MAX_ENTRIES = 150_000
"""Paths of one package; Debian's fullest have about 100,000."""
SIZE_FLOOR = 64 * 1024**2
RATIO = 256
LARGE = 512 * 1024**2
"""What is larger than this has to look like a large package."""
LARGE_RATIO = 64
TOTAL_FLOOR = 1024**3


def payload_limit(size: int, installed_size: int | None = None) -> int:
    """Return how many bytes a package's payload may have, by the file's size and by what it says itself, if known."""
    limit = min(RATIO * size + SIZE_FLOOR, max(LARGE, LARGE_RATIO * size))
    return limit if installed_size is None else min(limit, 2 * installed_size + SIZE_FLOOR)


def total_limit(size: int) -> int:
    """Return how many bytes the payloads of a run's packages may have together, which have `size` themselves."""
    return LARGE_RATIO * size + TOTAL_FLOOR
