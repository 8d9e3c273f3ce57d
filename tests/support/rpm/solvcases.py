# SPDX-License-Identifier: Apache-2.0
"""
libsolv's own testcases: repositories as tagged text, jobs, and what must come of them.

    repo NAME PRIORITY testtags FILE      or <inline>, with lines that start with #>
    system ARCHITECTURE rpm NAME          the repository of what is installed
    job install name A
    result transaction,problems <inline>
    #>upgrade A-1-1.noarch@system A-2-1.noarch@test
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from msgspec.structs import replace as changed

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm.dependency import (
    Requirement,
    RichDependency,
    RpmDependency,
    RpmDependencyError,
    make_requirement,
    simple_parts,
)
from support.rpm.offering import Offered

_OPERATORS = {"&": "and", "|": "or", "+": "with", "-": "without", "<IF>": "if", "<UNLESS>": "unless"}
_FIELDS = {"Req": "requires", "Prq": "requires", "Prv": "provides", "Con": "conflicts", "Obs": "obsoletes"}
_SENSE = {"<": 2, ">": 4, "=": 8, "<=": 10, ">=": 12, "<>": 6}
_PIECE = re.compile(r"[()](?=\s|$)|(?<![^\s(])\(|[^\s]+")


@dataclass
class Step:
    """The jobs up to one result."""

    jobs: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    kind: str = ""
    result: list[str] = field(default_factory=list)


@dataclass
class SolvCase:
    """One file."""

    repositories: dict[str, list[RpmOffer]]
    installed: str
    architecture: str
    manager: str
    features: set[str]
    steps: list[Step]
    pool_flags: set[str]

    def offered(self) -> Offered:
        return Offered([o for name, offers in self.repositories.items() if name != self.installed for o in offers])

    @property
    def present(self) -> list[RpmOffer]:
        offers = self.repositories.get(self.installed, [])
        return [changed(offer, repository="", priority=99) for offer in offers]


def read_dependency(text: str) -> Requirement:
    """Raises `RpmDependencyError` for what isn't rpm's."""
    if not any(operator in text.split() for operator in _OPERATORS):
        return _simple(text.split())
    words = re.findall(r"[()]|<IF>|<UNLESS>|<ELSE>|[^\s()]+(?:\([^\s()]*\))*", text)
    place = 0

    def term() -> Requirement:
        nonlocal place
        if words[place] == "(":
            place += 1
            found = expression()
            place += 1
            return found
        start = place
        place += 3 if place + 1 < len(words) and words[place + 1] in _SENSE else 1
        return _simple(words[start:place])

    def expression() -> Requirement:
        nonlocal place
        found = term()
        while place < len(words) and words[place] != ")":
            operator = "else" if words[place] == "<ELSE>" else _OPERATORS[words[place]]
            place += 1
            if operator == "else" and isinstance(found, RichDependency) and found.operator in {"if", "unless"}:
                found = RichDependency(found.operator, (*found.parts, term()))
                continue
            parts = [found, term()]
            last = parts[1]
            if operator in {"if", "unless"} and isinstance(last, RichDependency) and last.operator == "else":
                parts = [parts[0], *last.parts]
            found = RichDependency(operator, tuple(parts))
        return found

    return expression()


@lru_cache(maxsize=200_000)
def _read(text: str) -> Requirement:
    return read_dependency(text)


def _simple(words: Sequence[str]) -> RpmDependency:
    if words[0].startswith("namespace:"):
        raise RpmDependencyError(words[0])
    if len(words) == 1:
        found = make_requirement(words[0]) if not words[0].startswith("(") else RpmDependency(words[0])
    else:
        found = make_requirement(words[0], _SENSE[words[1]], words[2])
    assert isinstance(found, RpmDependency)
    return found


def read_tags(lines: Iterable[str], repository: str, priority: int, cost: int) -> Iterator[RpmOffer]:
    """Read packages as tagged text."""
    name, evr, architecture, more = "", "", "", dict[str, list[str]]()
    inside = ""

    def made() -> RpmOffer:
        lists = {key: tuple(dict.fromkeys(_read(text) for text in more.get(key, ()))) for key in set(_FIELDS.values())}
        return RpmOffer(
            name=name,
            evr=evr,
            architecture=architecture,
            repository=repository,
            priority=priority,
            cost=cost,
            vendor="".join(more.get("vendor", ())),
            files=frozenset(more.get("files", ())),
            **lists,  # type: ignore[arg-type]
        )

    for line in lines:
        line = line.rstrip("\n")
        if inside:
            if line == f"-{inside}:":
                inside = ""
            elif inside in _FIELDS and not line.startswith(("solvable:", "rpmlib(")):
                more.setdefault(_FIELDS[inside], []).append(line)
            elif inside == "Fls":
                more.setdefault("files", []).append(line)
            continue
        tag, _, text = line.partition(":")
        text = text.strip()
        if tag.startswith("+"):
            inside = tag[1:]
        elif tag == "=Pkg":
            if name:
                yield made()
            name, version, release, architecture = (text.split() + ["noarch"])[:4]
            evr, more = (f"{version}-{release}" if release else version), {}
        elif tag[1:] in _FIELDS and tag[0] == "=":
            more.setdefault(_FIELDS[tag[1:]], []).append(text)
        elif tag == "=Vnd":
            more["vendor"] = [text]
        elif tag == "=Fls":
            more.setdefault("files", []).append(text)
    if name:
        yield made()


def read_case(path: Path) -> SolvCase:
    """Read a testcase. Raises `RpmDependencyError` where it has dependencies that aren't rpm's."""
    case = SolvCase({}, "", "", "", set(), [Step()], set())
    lines = path.read_text(errors="replace").splitlines()
    place = 0

    def inline() -> list[str]:
        nonlocal place
        found = []
        while place < len(lines) and lines[place].startswith("#>"):
            found.append(lines[place][2:])
            place += 1
        return found

    while place < len(lines):
        words = lines[place].split()
        line = lines[place]
        place += 1
        if not words or words[0].startswith("#"):
            continue
        step = case.steps[-1]
        match words[0]:
            case "repo":
                priority, _, below = words[2].partition(".")
                tags: Iterable[str] = ()
                if words[3:5] == ["testtags", "<inline>"]:
                    tags = inline()
                elif words[3] == "testtags":
                    file = path.parent / words[4]
                    tags = gzip.open(file, "rt", errors="replace") if file.suffix == ".gz" else file.open()
                offers = read_tags(tags, words[1], -int(priority), -int(below or 0))
                case.repositories[words[1]] = list(offers)
            case "system":
                case.architecture, case.manager = words[1:3]
                case.installed = words[3] if len(words) > 3 else ""
            case "feature":
                case.features.update(words[1:])
            case "job":
                step.jobs.append(line[4:].strip())
            case "solverflags":
                step.flags.update(words[1:])
            case "poolflags":
                case.pool_flags.update(words[1:])
            case "result":
                step.kind = words[1]
                step.result = (
                    inline()
                    if words[2] == "<inline>"
                    else (path.parent / words[2]).read_text().splitlines()
                    if len(words) > 2
                    else []
                )
            case "nextjob":
                kept = step if "reusesolver" in words else Step()
                case.steps.append(replace(kept, jobs=list(kept.jobs), flags=set(kept.flags), result=[], kind=""))
            case "namespace" | "disable" | "vendorclass" | "genid" | "ver":
                case.features.add(words[0])
            case _:
                pass
    return case


def all_dependencies(offers: Mapping[str, Sequence[RpmOffer]]) -> Iterator[RpmDependency]:
    for offer in (offer for some in offers.values() for offer in some):
        for one in (*offer.requires, *offer.conflicts):
            yield from simple_parts(one)
