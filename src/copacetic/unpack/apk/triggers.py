# SPDX-License-Identifier: Apache-2.0
"""
Triggers: packages that want to hear of directories in which something came or went.

A pattern begins with a slash, and a star in it doesn't cross one. A package that was just installed hears of every
directory that matches, the others of those that were touched; with a plus in front a pattern is only ever about those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from copacetic.glob import matches_glob
from copacetic.updates import PackageKey

__all__ = ["Interest", "find_fired"]


class Interest(Struct, frozen=True):
    """A package with its trigger."""

    package: PackageKey
    patterns: tuple[str, ...]
    fresh: bool
    """Whether it was installed, or upgraded, by this commit."""


def find_fired(
    interests: Iterable[Interest], directories: Iterable[str], touched: frozenset[str]
) -> Iterator[tuple[Interest, tuple[str, ...]]]:
    """Yield who hears of which of the packages' directories, in the order of the interests."""
    listed = sorted({path for path in directories if path})
    for interest in interests:
        heard = tuple(f"/{path}" for path in listed if _hears(interest, path, touched=path in touched))
        if heard:
            yield interest, heard


def _hears(interest: Interest, path: str, *, touched: bool) -> bool:
    for pattern in interest.patterns:
        plain = pattern.removeprefix("+")
        if plain.startswith("/") and (touched or (interest.fresh and plain == pattern)) and _matches(plain[1:], path):
            return True
    return False


def _matches(pattern: str, path: str) -> bool:
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(map(matches_glob, names, parts))
