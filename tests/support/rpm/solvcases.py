# SPDX-License-Identifier: Apache-2.0
"""
libsolv's own testcases: repositories, jobs, and what must come of them.

    repo NAME PRIORITY testtags FILE      or <inline>, with lines that start with #>
    system ARCHITECTURE rpm NAME          the repository of what is installed
    job install name A
    result transaction,problems <inline>
    #>upgrade A-1-1.noarch@system A-2-1.noarch@test

`judge` says of each whether the same comes of it here; many are about what nobody here asks for.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cmp_to_key
from pathlib import Path

from msgspec.structs import replace

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.solve import RpmGoals, solve_goals
from copacetic.repository.rpm.universe import RpmRules, RpmUniverse
from copacetic.rpm.dependency import RpmDependency, RpmDependencyError
from support.rpm.offering import Offered
from support.rpm.solvtags import read_tagged, read_tagged_dependency

__all__ = ["NotAskedForError", "SolvCase", "SolvStep", "judge", "read_solv_case"]

_FOREIGN_JOBS = frozenset({"distupgrade", "erase", "verify", "favor", "disfavor", "blacklist", "excludefromweak"}) | {
    "allowuninstall"
}
_FOREIGN_FLAGS = frozenset(
    {"allowuninstall", "allowdowngrade", "allowarchchange", "splitprovides", "strictrepopriority"}
)
_FOREIGN_FLAGS |= {"focusbest", "focusinstalled", "focusnew", "noautotarget"}
_FOREIGN_SELECTIONS = frozenset({"weak", "forcebest", "cleandeps", "targeted"})


class NotAskedForError(Exception):
    """A testcase is about something that is no part of updating an image."""


@dataclass
class SolvStep:
    """The jobs up to one result."""

    jobs: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    kind: str = ""
    result: list[str] = field(default_factory=list)


@dataclass
class SolvCase:
    """One file."""

    offers: list[RpmOffer] = field(default_factory=list)
    installed: str = ""
    architecture: str = ""
    manager: str = ""
    features: set[str] = field(default_factory=set)
    pool_flags: set[str] = field(default_factory=set)
    steps: list[SolvStep] = field(default_factory=lambda: [SolvStep()])


def read_solv_case(path: Path) -> SolvCase:
    """Read a testcase. Raises `NotAskedForError` for dependencies that aren't rpm's."""
    reader = _CaseReader(path)
    while reader.lines:
        words = reader.lines.pop(0).split()
        if words and words[0] in _LINES:
            _LINES[words[0]](reader, words[1:])
    return reader.case


class _CaseReader:
    def __init__(self, path: Path) -> None:
        self.lines = path.read_text(errors="replace").splitlines()
        self.case = SolvCase()
        self._folder = path.parent

    @property
    def step(self) -> SolvStep:
        return self.case.steps[-1]

    def inline(self) -> list[str]:
        found = []
        while self.lines and self.lines[0].startswith("#>"):
            found.append(self.lines.pop(0)[2:])
        return found

    def content(self, name: str) -> Iterable[str]:
        if name == "<inline>":
            return self.inline()
        data = (self._folder / name).read_bytes()
        return (gzip.decompress(data) if name.endswith(".gz") else data).decode(errors="replace").splitlines()

    def repo(self, words: list[str]) -> None:
        priority, _, below = words[1].partition(".")
        if words[2] == "testtags":
            try:
                tagged = read_tagged(self.content(words[3]), words[0], -int(priority), -int(below or 0))
                self.case.offers += tagged
            except RpmDependencyError as error:
                raise NotAskedForError(f"a dependency: {error}") from error

    def system(self, words: list[str]) -> None:
        self.case.architecture, self.case.manager, self.case.installed = [*words, "rpm", ""][:3]

    def result(self, words: list[str]) -> None:
        self.step.kind = words[0]
        self.step.result = list(self.content(words[1])) if len(words) > 1 else []

    def next(self, _: list[str]) -> None:
        self.case.steps.append(SolvStep())


_LINES: dict[str, Callable[[_CaseReader, list[str]], None]] = {
    "repo": _CaseReader.repo,
    "system": _CaseReader.system,
    "feature": lambda reader, words: reader.case.features.update(words),
    "namespace": lambda reader, _: reader.case.features.add("namespace"),
    "disable": lambda reader, _: reader.case.features.add("disable"),
    "vendorclass": lambda reader, _: reader.case.features.add("vendorclass"),
    "job": lambda reader, words: reader.step.jobs.append(" ".join(words)),
    "solverflags": lambda reader, words: reader.step.flags.update(words),
    "poolflags": lambda reader, words: reader.case.pool_flags.update(words),
    "result": _CaseReader.result,
    "nextjob": _CaseReader.next,
}


def judge(case: SolvCase, step: SolvStep) -> str:
    """Return what is different, "" for the same result. Raises `NotAskedForError`."""
    kinds = {job.split()[0] for job in step.jobs}
    if case.manager == "deb":
        raise NotAskedForError("another package manager")
    if "transaction" not in step.kind:
        raise NotAskedForError("inner workings")
    for words in (
        kinds & _FOREIGN_JOBS,
        step.flags & _FOREIGN_FLAGS,
        case.features & {"namespace", "disable", "vendorclass"},
    ):
        if words:
            raise NotAskedForError(", ".join(sorted(words)))
    new, gone = _expected(step)
    posed = _Posed(case, step)
    solution = solve_goals(posed.universe, posed.goals)
    problem = any(line.startswith("problem") for line in step.result)
    reached = all(solution.reached[: posed.required])
    if problem or not reached:
        return "" if problem and not reached else f"all reached: {reached}"
    packages = posed.universe.package
    here = {packages(number).nevra for number in solution.ordered}
    left = {packages(number).nevra for number in posed.universe.installed if number not in solution.chosen}
    return "" if (here, left) == (new, gone) else f"{sorted(here ^ new)}, and gone {sorted(left ^ gone)}"


def _expected(step: SolvStep) -> tuple[set[str], set[str]]:
    """What comes in, and what goes."""
    new, gone = set(), set()
    for words in filter(None, map(str.split, step.result)):
        names = [word.partition("@")[0] for word in words[1:]]
        match words[0]:
            case "install" | "multiinstall":
                new.add(names[0])
            case "erase":
                gone.add(names[0])
            case "upgrade" | "downgrade" | "change" | "reinstall":
                gone.add(names[0])
                new.add(names[1])
            case _:
                pass  # what else testsolv can tell
    return new, gone


class _Posed:
    """The jobs of one step as goals."""

    def __init__(self, case: SolvCase, step: SolvStep) -> None:
        self._case = case
        self._source = Offered([offer for offer in case.offers if offer.repository != case.installed])
        installed = [replace(o, repository="", priority=99) for o in case.offers if o.repository == case.installed]
        jobs = list(map(self._split, step.jobs))
        self.universe = RpmUniverse(
            installed,
            self._source,
            RpmRules(
                architecture=case.architecture if case.architecture not in {"*", "", "unset"} else "x86_64",
                install_only=frozenset(self._install_only(jobs, installed)),
                multilib="implicitobsoleteusescolors" in case.pool_flags,
                keeps_vendor="allowvendorchange" not in step.flags,
            ),
        )
        locked = {number for job in jobs if job[0] == "lock" for number in self._selected(job)}
        installs = [self._options(job) for job in jobs if job[0] == "install"]
        updates = [self._selected(job) for job in jobs if job[0] == "update"]
        self.required = len(installs)
        """How many of the goals must be reached."""
        self.goals = RpmGoals(
            wanted=[*installs, *filter(None, map(self._targets, updates))],
            lifted=[n for numbers in updates for n in numbers if self.universe.is_installed(n)],
            kept={number for number in locked if self.universe.is_installed(number)},
            excluded=lambda number: number in locked,
        )

    def _split(self, job: str) -> list[str]:
        flags = re.findall(r"\[(.*)\]", job)
        if flags and set(flags[0].split(",")) & _FOREIGN_SELECTIONS:
            raise NotAskedForError(flags[0])
        return re.sub(r"\[.*\]", "", job).split()

    def _install_only(self, jobs: list[list[str]], installed: list[RpmOffer]) -> Iterator[str]:
        for job in jobs:
            if job[0] == "multiversion":
                offers = (*self._source.offers, *installed)
                yield from (o.name for o in offers if job[2] in {o.name, *(p.name for p in o.provides)})

    def _options(self, job: list[str]) -> list[int]:
        """What is installed already in this very version will do as well; of one name the newest is the best."""
        universe = self.universe
        found = self._selected(job)
        nevras = {universe.package(number).nevra for number in found}
        found += [n for n in universe.installed if n not in found and universe.package(n).nevra in nevras]

        def order(one: int, other: int) -> int:
            same = universe.package(one).name == universe.package(other).name
            return -universe.compare(one, other) if same else 0

        return sorted(found, key=cmp_to_key(order))

    def _targets(self, numbers: list[int]) -> list[int]:
        """What is to be updated to, where nothing that is to be updated was named."""
        universe = self.universe
        if any(map(universe.is_installed, numbers)):
            return []
        able = [number for number in numbers if any(number in universe.updates(old) for old in universe.installed)]
        return universe.newest_first(able)

    def _selected(self, job: list[str]) -> list[int]:
        universe = self.universe
        match job[1]:
            case "all":
                return list(universe.installed)
            case "pkg" | "oneof":
                return [number for text in job[2:] for number in self._exactly(text)]
            case "name" | "provides" if "." not in job[2]:
                asked = read_tagged_dependency(" ".join(job[2:]))
                assert isinstance(asked, RpmDependency)
                by_name = job[1] == "name"
                return [n for n in universe.providers(asked) if not by_name or universe.package(n).name == asked.name]
            case other:
                raise NotAskedForError(f"a selection of {other}")

    def _exactly(self, text: str) -> list[int]:
        nevra, _, repository = text.partition("@")
        if repository == self._case.installed:
            return [number for number in self.universe.installed if self.universe.package(number).nevra == nevra]
        named = [offer for offer in self._source.offers if offer.nevra == nevra and offer.repository == repository]
        numbers = (number for offer in named for number in self.universe.named(offer.name))
        return [number for number in dict.fromkeys(numbers) if self.universe.package(number) in named]
