# SPDX-License-Identifier: Apache-2.0
"""
Packages in the text form of libsolv's testcases.

    =Pkg: name version release architecture
    =Req: name >= version          or several lines between +Req: and -Req:
    =Con: A & (B | C)              &, |, +, -, <IF>, <ELSE>, <UNLESS>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm.dependency import (
    EQUAL,
    GREATER,
    LESS,
    Requirement,
    RichDependency,
    RpmDependency,
    RpmDependencyError,
    make_requirement,
)

__all__ = ["read_tagged", "read_tagged_dependency", "spell_dependency"]

_OPERATORS = {"&": "and", "|": "or", "+": "with", "-": "without", "<IF>": "if", "<UNLESS>": "unless", "<ELSE>": "else"}
_SPELLED = {operator: word for word, operator in _OPERATORS.items()}
_SENSE = {"<": LESS, ">": GREATER, "=": EQUAL, "<=": LESS | EQUAL, ">=": GREATER | EQUAL, "<>": LESS | GREATER}
_LISTS = {
    "Req": "requires",
    "Prq": "requires",
    "Prv": "provides",
    "Con": "conflicts",
    "Obs": "obsoletes",
    "Fls": "files",
}
_WORD = re.compile(r"[()]|<IF>|<UNLESS>|<ELSE>|[^\s()]+(?:\([^\s()]*\))*")


def spell_dependency(requirement: Requirement) -> str:
    """Write a dependency as a testcase has it."""
    if isinstance(requirement, RpmDependency):
        return str(requirement)
    words = [_spell_part(part) for part in requirement.parts]
    operator = _SPELLED[requirement.operator]
    if requirement.operator in {"if", "unless"} and len(words) == 3:
        return f"{words[0]} {operator} ({words[1]} <ELSE> {words[2]})"
    return f" {operator} ".join(words)


def _spell_part(requirement: Requirement) -> str:
    text = spell_dependency(requirement)
    return text if isinstance(requirement, RpmDependency) else f"({text})"


@lru_cache(maxsize=200_000)
def read_tagged_dependency(text: str) -> Requirement:
    """Raises `RpmDependencyError` for what isn't rpm's."""
    words = text.split()
    if any(word in _OPERATORS for word in words):
        return _Expression(_WORD.findall(text)).read()
    if words[0].startswith("namespace:"):
        raise RpmDependencyError(text)
    if words[0].startswith("("):
        return RpmDependency(words[0])
    return make_requirement(words[0], *([_SENSE[words[1]], words[2]] if len(words) > 1 else []))


class _Expression:
    """Words with operators between them, read from left to right."""

    def __init__(self, words: list[str]) -> None:
        self._words = words[::-1]

    def read(self) -> Requirement:
        found = self._term()
        while self._words and self._words[-1] != ")":
            operator = _OPERATORS[self._words.pop()]
            other = self._term()
            if operator == "else" and isinstance(found, RichDependency) and found.operator in {"if", "unless"}:
                found = RichDependency(found.operator, (*found.parts, other))
            elif isinstance(other, RichDependency) and other.operator == "else":
                found = RichDependency(operator, (found, *other.parts))
            else:
                found = RichDependency(operator, (found, other))
        return found

    def _term(self) -> Requirement:
        word = self._words.pop()
        if word == "(":
            found = self.read()
            self._words.pop()
            return found
        if self._words and self._words[-1] in _SENSE:
            return read_tagged_dependency(f"{word} {self._words.pop()} {self._words.pop()}")
        return read_tagged_dependency(word)


def read_tagged(lines: Iterable[str], repository: str, priority: int, cost: int) -> Iterator[RpmOffer]:
    """Read packages."""
    identity: list[str] = []
    more: dict[str, list[str]] = {}

    def made() -> RpmOffer:
        lists = {key: tuple(dict.fromkeys(map(read_tagged_dependency, more.get(key, ())))) for key in _KINDS}
        return RpmOffer(
            name=identity[0],
            evr="-".join(identity[1:-1]),
            architecture=identity[-1],
            repository=repository,
            priority=priority,
            cost=cost,
            vendor="".join(more.get("Vnd", ())),
            files=frozenset(more.get("files", ())),
            **lists,  # type: ignore[arg-type]
        )

    for tag, text in _pairs(lines):
        if tag == "Pkg":
            if identity:
                yield made()
            identity, more = [*text.split(), "noarch"][:4], {}
        elif not text.startswith(("solvable:", "rpmlib(")):
            more.setdefault(_LISTS.get(tag, tag), []).append(text)
    if identity:
        yield made()


_KINDS = frozenset(_LISTS.values()) - {"files"}


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    inside = ""
    for line in lines:
        text = line.rstrip("\n")
        if inside and text == f"-{inside}:":
            inside = ""
        elif inside:
            yield inside, text
        elif text.startswith("+"):
            inside = text[1:].rstrip(":")
        elif text.startswith("="):
            yield text[1:4], text[5:].strip()
