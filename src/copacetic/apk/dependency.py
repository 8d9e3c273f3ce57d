# SPDX-License-Identifier: Apache-2.0
"""
Dependencies: `[!]name[@tag][op version]`, as in `D`, `p`, `i`, `r` and in `world`.

    op    = < <= > >=    compare versions
          ~ (also =~)    the version begins with this one; <~ and >~ are that, or smaller or greater
          ><             the package's identity
"""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct

from copacetic.apk.stanza import ApkStanza
from copacetic.errors import InvalidVersionError
from copacetic.version import parse_version

__all__ = ["Dependency", "DependencyError", "parse_dependencies", "parse_dependency", "provided_names"]

_DEPENDENCY = re.compile(r"(!?)([^\s!<>=~@]+)(?:@([^\s<>=~@]+))?(?:([<>=~]{1,3})([^\s<>=~@]+))?(?:@([^\s<>=~@]+))?")
_IDENTITY = re.compile(r"(!?)([^\s!<>=~@]+)><(\S+)")
_OPERATORS = {
    "=": (0,),
    "<": (-1,),
    "<=": (-1, 0),
    "=<": (-1, 0),
    ">": (1,),
    ">=": (0, 1),
    "=>": (0, 1),
    "~": (0,),
    "~=": (0,),
    "=~": (0,),
    "<~": (-1, 0),
    "~<": (-1, 0),
    ">~": (0, 1),
    "~>": (0, 1),
    "><": (),
}
"""The outcomes of comparing that satisfy each."""
_MAX_LENGTH = 512
_MAX_LIST = 1_000_000


class DependencyError(ValueError):
    """A word that is no dependency."""


class Dependency(Struct, frozen=True):
    """One word of a list; as a provided name it has at most `=` and a version."""

    name: str
    operator: str = ""
    version: str = ""
    tag: str = ""
    """In `world`: the repositories to prefer for this name."""
    conflict: bool = False

    def matches(self, version: str | None, identity: str, scheme: str) -> bool:
        """
        Tell whether a provider meets the positive form: `conflict` is for the caller.

        `version` is the one that the name is provided with, None for a name without one, which meets nothing that
        asks for a version. A version that `scheme` can't compare meets nothing.
        """
        if not self.operator:
            return True
        if self.operator == "><":
            return identity == self.version
        if version is None:
            return False
        try:
            one, other = parse_version(scheme, version), parse_version(scheme, self.version)
        except InvalidVersionError:
            return False
        order: int = one.compare(other, fuzzy="~" in self.operator)  # type: ignore[attr-defined]
        return order in _OPERATORS[self.operator]

    @property
    def pins(self) -> bool:
        """Whether it asks for one version exactly."""
        return self.operator == "=" and not self.conflict

    def __str__(self) -> str:
        tag = f"@{self.tag}" if self.tag else ""
        return f"{'!' if self.conflict else ''}{self.name}{tag}{self.operator}{self.version}"


@lru_cache(maxsize=65_536)
def parse_dependency(word: str) -> Dependency:
    """Raises `DependencyError`, quoting the word."""
    if len(word) <= _MAX_LENGTH:
        if (match := _IDENTITY.fullmatch(word)) is not None:
            return Dependency(match[2], "><", match[3], conflict=bool(match[1]))
        match = _DEPENDENCY.fullmatch(word)
        if match is not None and (not match[4] or match[4] in _OPERATORS):
            tag = match[3] or match[6] or ""
            return Dependency(match[2], match[4] or "", match[5] or "", tag, conflict=bool(match[1]))
    raise DependencyError(f"not a dependency: {word[:120]!r}")


@lru_cache(maxsize=16_384)
def parse_dependencies(text: str) -> tuple[Dependency, ...]:
    """Read a list of words. Raises `DependencyError`."""
    if len(text) > _MAX_LIST:
        raise DependencyError(f"a list of {len(text)} characters")
    return tuple(parse_dependency(word) for word in text.split())


def provided_names(package: ApkStanza) -> dict[str, str | None]:
    """
    Return the names that a package answers to with the version of each, None for one without.

    Raises `DependencyError`, naming the package.
    """
    names: dict[str, str | None] = {package.name: package.version}
    for provided in dependencies_of(package, "p"):
        names.setdefault(provided.name, provided.version or None)
    return names


def dependencies_of(package: ApkStanza, letter: str) -> tuple[Dependency, ...]:
    """Read one of a package's lists. Raises `DependencyError`, naming the package."""
    text = package.fields.get(letter, "")
    if not text:
        return ()
    try:
        return parse_dependencies(text)
    except DependencyError as error:
        raise DependencyError(f"{package.name}: {letter}: {error}") from error
