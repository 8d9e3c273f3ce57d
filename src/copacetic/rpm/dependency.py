# SPDX-License-Identifier: Apache-2.0
"""
Dependencies between rpm packages: a name with a range of versions, a path, or a rich one, `(A if B else C)`.

Headers give name, flags and version apart; repositories and people write `name >= version`. What is provided has the
same form, and both match where their ranges overlap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any

from msgspec import Struct

from copacetic.errors import InvalidVersionError
from copacetic.version.rpm import RpmVersion

__all__ = [
    "EQUAL",
    "GREATER",
    "LESS",
    "MISSING_OK",
    "Requirement",
    "RichDependency",
    "RpmDependency",
    "RpmDependencyError",
    "holds",
    "make_requirement",
    "parse_requirement",
    "simple_parts",
]

LESS, GREATER, EQUAL = 2, 4, 8
"""Bits of a header's flags; the others of them say when a dependency counts."""
SENSE = LESS | GREATER | EQUAL
MISSING_OK = 1 << 19
"""Of a requirement that is a recommendation only, as old packages spell it."""

_OPERATORS = {
    "<": LESS,
    ">": GREATER,
    "=": EQUAL,
    "<=": LESS | EQUAL,
    ">=": GREATER | EQUAL,
    "<>": LESS | GREATER,
    "<=>": SENSE,
}
_SYMBOLS = {flags: text for text, flags in _OPERATORS.items()}
_CHAINED = frozenset({"and", "or", "with"})
_CONDITIONAL = frozenset({"if", "unless"})
_WORDS = _CHAINED | _CONDITIONAL | {"without"}

_MAX_LENGTH = 8_192
_MAX_DEPTH = 20
_NAME = re.compile(r"[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*")
"""There are some with blanks: paths, and `gpg(Name <address>)`."""


class RpmDependencyError(ValueError):
    """Text that is no dependency."""


_version = lru_cache(maxsize=65_536)(RpmVersion)


class RpmDependency(Struct, frozen=True):
    """A name and the versions that it is asked for, or provided, with."""

    name: str
    flags: int = 0
    """Of `LESS`, `GREATER` and `EQUAL`; 0 for any version."""
    evr: str = ""

    def matches(self, provided: RpmDependency) -> bool:
        """Tell whether something provided under the same name is in the range; without a version it always is."""
        if not self.flags or not provided.flags:
            return True
        if provided.evr == self.evr:
            return bool(provided.flags & self.flags)
        theirs, ours = _version(provided.evr), _version(self.evr)
        order = theirs.compare(ours)
        if order < 0:
            return bool(provided.flags & GREATER or self.flags & LESS)
        if order > 0:
            return bool(provided.flags & LESS or self.flags & GREATER)
        if theirs.has_release != ours.has_release and (self if theirs.has_release else provided).flags & EQUAL:
            return True  # a version without a release stands for all that it may have
        return bool(provided.flags & self.flags)

    @property
    def is_feature(self) -> bool:
        """Whether it asks for something that rpm itself must be able to do."""
        return self.name.startswith("rpmlib(")

    def __str__(self) -> str:
        return f"{self.name} {_SYMBOLS[self.flags]} {self.evr}" if self.flags else self.name


class RichDependency(Struct, frozen=True):
    """
    A condition on several: `and`, `or` and `with` of two or more parts, `without` of two, `if` and `unless` of two, or
    three with an `else`. The parts of `with` and `without` must be met by one package.
    """

    operator: str
    parts: tuple[Requirement, ...]

    def __str__(self) -> str:
        words = [str(self.parts[0])]
        for number, part in enumerate(self.parts[1:]):
            words += ["else" if number and self.operator in _CONDITIONAL else self.operator, str(part)]
        return f"({' '.join(words)})"


Requirement = RpmDependency | RichDependency


@lru_cache(maxsize=65_536)
def make_requirement(name: str, flags: int = 0, evr: str = "") -> Requirement:
    """Read what headers and metadata keep in three fields. Raises `RpmDependencyError`, quoting it."""
    if name.startswith("("):
        return parse_requirement(name)
    if len(name) > _MAX_LENGTH or not _NAME.fullmatch(name):
        raise RpmDependencyError(f"not a dependency: {name[:120]!r}")
    sense = flags & SENSE if evr else 0
    if not sense:
        return RpmDependency(name)
    try:
        _version(evr)
    except InvalidVersionError as error:
        raise RpmDependencyError(f"{name[:120]}: {error}") from error
    return RpmDependency(name, sense, evr)


@lru_cache(maxsize=4_096)
def parse_requirement(text: str) -> Requirement:
    """Read `name`, `name >= version` or a rich dependency. Raises `RpmDependencyError`, quoting it."""
    if len(text) > _MAX_LENGTH:
        raise RpmDependencyError(f"a dependency of {len(text)} characters")
    reader = _Reader(text)
    found = reader.read()
    if found is None or not reader.is_done:
        raise RpmDependencyError(f"not a dependency: {text[:120]!r}")
    return found


_TOKEN = re.compile(r"\s*(?:([()])|([^\s()]+(?:\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)[^\s()]*)*))")


class _Reader:
    """Words of one text, read once from left to right; what isn't in the grammar is None."""

    def __init__(self, text: str) -> None:
        self._words: list[str] = []
        end = 0
        while (match := _TOKEN.match(text, end)) is not None:
            self._words.append(match[1] or match[2])
            end = match.end()
        self._odd = bool(text[end:].strip())
        self._next = 0

    @property
    def is_done(self) -> bool:
        return self._next == len(self._words) and not self._odd

    def _peek(self) -> str:
        return self._words[self._next] if self._next < len(self._words) else ""

    def _take(self) -> str:
        word = self._peek()
        self._next += 1
        return word

    def read(self, depth: int = 0) -> Requirement | None:
        if self._peek() == "(":
            return self._rich(depth + 1) if depth < _MAX_DEPTH else None
        name = self._take()
        operator = _OPERATORS.get(self._peek(), 0)
        if not name or name == ")" or name in _WORDS:
            return None
        if not operator:
            return make_requirement(name)
        self._next += 1
        evr = self._take()
        return make_requirement(name, operator, evr) if evr else None

    def _rich(self, depth: int) -> Requirement | None:
        self._take()
        parts = [self.read(depth)]
        operator = self._peek()
        if operator not in _WORDS:
            return self._closed(parts[0])
        while self._peek() == operator and (len(parts) == 1 or operator in _CHAINED):
            self._take()
            parts.append(self.read(depth))
        if operator in _CONDITIONAL and self._peek() == "else":
            self._take()
            parts.append(self.read(depth))
        known = tuple(part for part in parts if part is not None)
        return self._closed(RichDependency(operator, known)) if len(known) == len(parts) else None

    def _closed(self, found: Requirement | None) -> Requirement | None:
        return found if self._take() == ")" else None


def simple_parts(requirement: Requirement) -> Iterator[RpmDependency]:
    """Yield every simple dependency in it, conditions included."""
    if isinstance(requirement, RpmDependency):
        yield requirement
    else:
        for part in requirement.parts:
            yield from simple_parts(part)


def holds(requirement: Requirement, found: Callable[[RpmDependency], AbstractSet[Any]]) -> bool:
    """Tell whether a set of packages meets it; `found` gives those of the set that meet a simple one."""
    if isinstance(requirement, RpmDependency):
        return bool(found(requirement))
    parts = requirement.parts
    match requirement.operator:
        case "and":
            return all(holds(part, found) for part in parts)
        case "or":
            return any(holds(part, found) for part in parts)
        case "if":
            return holds(parts[0], found) if holds(parts[1], found) else len(parts) == 2 or holds(parts[2], found)
        case "unless":
            return len(parts) == 3 and holds(parts[2], found) if holds(parts[1], found) else holds(parts[0], found)
        case _:
            return bool(meeting(requirement, found))


def meeting(requirement: Requirement, found: Callable[[RpmDependency], AbstractSet[Any]]) -> AbstractSet[Any]:
    """Return the packages that meet it on their own; of use for `with`, `without` and what may be in them."""
    if isinstance(requirement, RpmDependency):
        return found(requirement)
    sets: Sequence[AbstractSet[Any]] = [meeting(part, found) for part in requirement.parts]
    result = sets[0]
    for other in sets[1:]:
        if requirement.operator in {"with", "and"}:
            result = result & other
        elif requirement.operator == "or":
            result = result | other
        else:
            result = result - other
    return result
