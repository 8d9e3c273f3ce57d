# SPDX-License-Identifier: Apache-2.0
"""
What has run in an image before: the commands that the installed version's script reached when it was installed.

Equal text is no run. A first installation ran few of a package's scripts, with arguments of its own, and what stands
behind other ones in the same script has never been done, unless lower layers have an older version: then the installed
one came as an upgrade, with that as an argument. That other packages' files may have been others then isn't known, and
left out of account.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from copacetic.scripts.shell.machine import Reached

__all__ = ["NOTHING_RAN", "Past", "Ran"]

_Key = tuple[tuple[str | None, ...], tuple[str | None, ...], str | None]


class Ran(Struct, frozen=True):
    """Commands that have run; a version of the package counts as any other one."""

    keys: frozenset[_Key] = frozenset()
    versions: tuple[str, ...] = ()

    @classmethod
    def of(cls, commands: Iterable[Reached], versions: Sequence[str]) -> Ran:
        known = tuple(version for version in versions if version)
        return cls(frozenset(_key(command, known) for command in commands), known)

    def has(self, command: Reached) -> bool:
        """Tell whether a command has run, with the same words, where it runs, and with the same files to write to."""
        return _key(command, self.versions) in self.keys


NOTHING_RAN = Ran()


class Past:
    """Several runs, one after the other, looked into only as far as commands aren't found."""

    def __init__(self, runs: Iterator[Ran]) -> None:
        self._runs = runs
        self._known: list[Ran] = []

    def has(self, command: Reached) -> bool:
        """Tell whether a command has run in any of them."""
        if any(ran.has(command) for ran in self._known):
            return True
        for ran in self._runs:
            self._known.append(ran)
            if ran.has(command):
                return True
        return False


def _key(command: Reached, versions: Sequence[str]) -> _Key:
    return _mask(command.words, versions), _mask(command.writes, versions), command.directory


def _mask(words: Sequence[str | None], versions: Sequence[str]) -> tuple[str | None, ...]:
    masked: list[str | None] = []
    for word in words:
        value = word
        for version in versions:
            value = value.replace(version, "\0") if value is not None else None
        masked.append(value)
    return tuple(masked)
