# SPDX-License-Identifier: Apache-2.0
"""
Version schemes, one module each, registered under the package type that they order.

A scheme is a class whose instances are made from text, compare with each other, and raise `InvalidVersionError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

from copacetic.errors import InvalidVersionError

__all__ = ["SCHEMES", "Version", "compare_versions", "parse_version", "reaches"]


class Version(Protocol):
    """Something ordered; only versions of one scheme compare."""

    def __lt__(self, other: Any, /) -> bool: ...


SCHEMES: Mapping[str, str] = {
    "deb": "copacetic.version.deb:DebVersion",
    "apk": "copacetic.version.apk:ApkVersion",
    "apk2": "copacetic.version.apk:Apk2Version",
}
"""
By type of package; where the order depends on the release of an image's package manager, the type itself stands for
the newest rules, and `PackageDatabase.version_scheme` says which ones an image has.
"""


@lru_cache(maxsize=65_536)
def parse_version(scheme: str, text: str) -> Version:
    """Return the version for comparing. Raises `InvalidVersionError`, also for a scheme that isn't known."""
    entry = SCHEMES.get(scheme)
    if entry is None:
        raise InvalidVersionError(f"no version scheme for packages of type {scheme!r}")
    module, _, name = entry.partition(":")
    version: Version = getattr(import_module(module), name)(text)
    return version


def compare_versions(scheme: str, first: str, second: str) -> int:
    """Return a negative number, 0 or a positive number, as `first` is older, equal or newer."""
    one, other = parse_version(scheme, first), parse_version(scheme, second)
    return -1 if one < other else int(other < one)


def reaches(scheme: str, version: str, others: Iterable[str]) -> bool:
    """Tell whether a version is as new as each of the others."""
    return all(compare_versions(scheme, version, other) >= 0 for other in others)
