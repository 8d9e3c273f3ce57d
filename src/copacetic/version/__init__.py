# SPDX-License-Identifier: Apache-2.0
"""
Version schemes, one module each, which the rows of the families name (`families`).

A scheme is a class whose instances are made from text, compare with each other, and raise `InvalidVersionError`.
What a version has to do with a fix, each family says for itself (`PackageDatabase.is_fixed`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

from copacetic.errors import InvalidVersionError
from copacetic.families import find_scheme
from copacetic.loader import load

__all__ = ["Version", "compare_versions", "parse_version"]


class Version(Protocol):
    """Something ordered; only versions of one scheme compare."""

    def __lt__(self, other: Any, /) -> bool: ...


@lru_cache(maxsize=65_536)
def parse_version(scheme: str, text: str) -> Version:
    """Return the version for comparing. Raises `InvalidVersionError`, also for a scheme that isn't known."""
    entry = find_scheme(scheme)
    if entry is None:
        raise InvalidVersionError(f"no version scheme for packages of type {scheme!r}")
    version: Version = load(entry)(text)
    return version


def compare_versions(scheme: str, first: str, second: str) -> int:
    """Return a negative number, 0 or a positive number, as `first` is older, equal or newer."""
    one, other = parse_version(scheme, first), parse_version(scheme, second)
    return -1 if one < other else int(other < one)
