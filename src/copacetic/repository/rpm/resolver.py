# SPDX-License-Identifier: Apache-2.0
"""
From what is wanted to changes, by dnf's preferences.

With everything wanted this is `dnf upgrade` that leaves out what can't be had; with some packages wanted only they are
updated, to the oldest version that has the fixes, with what that needs. Nothing goes unless something obsoletes it, and
nothing goes down. What was broken before may stay so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from copacetic.errors import InvalidVersionError
from copacetic.repository.rpm.clauses import Clauses
from copacetic.repository.rpm.explain import RpmExplainer
from copacetic.repository.rpm.offer import RpmOffer, RpmOfferSource
from copacetic.repository.rpm.order import order_packages
from copacetic.repository.rpm.satisfy import MAX_CONFLICTS, GivenUpError
from copacetic.repository.rpm.solve import RpmGoals, RpmSolution, solve_goals
from copacetic.repository.rpm.universe import RpmRules, RpmUniverse
from copacetic.updates import Finding, InstalledPackage, PackageKey, Skipped, SkipReason, Wanted

__all__ = ["PresentRpm", "RpmChange", "RpmResolved", "RpmResolver"]

MAX_SEARCHES = 20
_LESS_EFFORT = MAX_CONFLICTS // 10
"""For each search after one that was given up."""
_GIVEN_UP = "the search for a consistent set was given up"
_HELD = "is held at its version by the image"


class PresentRpm(Struct, frozen=True):
    """An installed package, with what its header says."""

    package: InstalledPackage
    offer: RpmOffer


class RpmChange(Struct, frozen=True, kw_only=True):
    """A package that comes in."""

    new: RpmOffer
    old: InstalledPackage | None
    """What it takes the place of; None for one that comes in new, or beside others of its name."""
    obsoleted: tuple[InstalledPackage, ...] = ()
    """Further packages that go for it."""
    findings: tuple[Finding, ...] = ()
    """Of all that it replaces."""
    required_by: tuple[str, ...] = ()
    """Names of the packages for whose sake it comes, when nobody asked for it."""


class RpmResolved(Struct, frozen=True, kw_only=True):
    """The changes in an order in which they can be made, what stays though it was wanted, and what else to know."""

    changes: tuple[RpmChange, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


class _Aim(Struct, frozen=True):
    """A wanted package, as numbers."""

    want: Wanted
    number: int
    newer: list[int]
    """What is newer and may take its place, the oldest first."""
    fitting: list[int]
    """Of these what has the fixes."""


class RpmResolver:
    """Resolves one request."""

    def __init__(
        self,
        installed: Sequence[PresentRpm],
        source: RpmOfferSource,
        rules: RpmRules,
        *,
        is_fixed: Callable[[RpmOffer, Finding], bool],
        frozen: Mapping[PackageKey, str] | None = None,
    ) -> None:
        """`frozen` gives reasons, after a package's name, why it may neither change nor come in."""
        self._installed = tuple(installed)
        self._source = source
        self._universe = RpmUniverse([present.offer for present in installed], source, rules)
        self._is_fixed = is_fixed
        self._frozen = {(key.name, key.architecture): reason for key, reason in (frozen or {}).items()}
        self._numbers = {present.package.key: number for number, present in enumerate(self._installed, start=1)}
        self._kept = {
            number: self._frozen.get((present.package.name, present.package.architecture)) or _HELD
            for number, present in enumerate(self._installed, start=1)
            if present.package.held or (present.package.name, present.package.architecture) in self._frozen
        }

    def resolve(self, wanted: Sequence[Wanted], *, exhaustive: bool) -> RpmResolved:
        """Raises `RepositoryError` when a repository offers too much to look at."""
        wanted = sorted(wanted, key=lambda want: want.package.key)
        aims = [self._aim(want) for want in wanted if want.package.key in self._numbers]
        solution, untried = self._search([aim for aim in aims if aim.number not in self._kept], exhaustive=exhaustive)
        return RpmResolved(
            changes=self._changes(solution, aims),
            skipped=self._skipped(solution, aims, untried),
            notes=tuple(self._notes(solution)),
        )

    def _aim(self, want: Wanted) -> _Aim:
        universe = self._universe
        number = self._numbers[want.package.key]
        name = universe.package(number).name
        newer = [n for n in (*universe.updates(number), *universe.beside(number)) if universe.package(n).name == name]
        newer = universe.newest_first(newer)[::-1]
        return _Aim(want, number, newer, [other for other in newer if self._fixes(want, other)])

    def _fixes(self, want: Wanted, number: int) -> bool:
        try:
            return all(self._is_fixed(self._universe.package(number), finding) for finding in want.findings)
        except InvalidVersionError:
            return False

    def _search(self, aims: Sequence[_Aim], *, exhaustive: bool) -> tuple[RpmSolution, Collection[int]]:
        """Where all together are too much for a search, as many as aren't; the rest is returned."""
        pending = [list(aims)]
        solution, reached, untried = self._solve((), exhaustive=exhaustive), list[_Aim](), list[_Aim]()
        for _ in range(MAX_SEARCHES):
            if not pending:
                break
            some = pending.pop()
            try:
                effort = _LESS_EFFORT if untried or len(some) < len(aims) else MAX_CONFLICTS
                solution = self._solve([*reached, *some], exhaustive=exhaustive, effort=effort)
            except GivenUpError:
                middle = len(some) // 2
                pending += [some[middle:], some[:middle]] if middle else []
                untried += [] if middle else some
            else:
                reached += some
        return solution, {aim.number for some in (untried, *pending) for aim in some}

    def _solve(self, aims: Sequence[_Aim], *, exhaustive: bool, effort: int = MAX_CONFLICTS) -> RpmSolution:
        fixed = [aim for aim in aims if aim.want.findings and aim.fitting]
        goals = RpmGoals(
            kept=self._kept,
            wanted=[aim.fitting[::-1] if exhaustive or aim.want.is_open_ended else aim.fitting for aim in fixed],
            lifted=[aim.number for aim in aims if exhaustive or aim.want.is_open_ended],
            lowest=not exhaustive,
            excluded=lambda number: bool(self._reason(number)),
            effort=effort,
        )
        return solve_goals(self._universe, goals)

    def _reason(self, number: int) -> str:
        """Why a package may not change, or come in."""
        if self._universe.is_installed(number):
            return self._kept.get(number, "")
        offer = self._universe.package(number)
        return self._frozen.get((offer.name, offer.architecture), "")

    def _changes(self, solution: RpmSolution, aims: Sequence[_Aim]) -> tuple[RpmChange, ...]:
        universe = self._universe
        clauses = Clauses(universe)
        wants = {aim.number: aim.want for aim in aims}
        new = set(solution.ordered)
        needs = {n: [p for need in clauses.needs(n) for p in need.clause if p in new] for n in self._by_name(new)}
        replaced = {number: self._replaced_by(number, solution) for number in new}
        beside = {n for n in new if universe.is_install_only(n)}
        asked = {n for n in new if any(old in wants for old in replaced[n])}
        asked |= {n for n in beside if any(n in aim.newer for aim in aims)}
        changes = []
        gone: set[int] = set()
        for number in order_packages(needs):
            # What was split up is replaced once: by the first of its heirs.
            olds = [self._installed[old - 1].package for old in replaced[number] if old not in gone]
            gone.update(replaced[number])
            found = [finding for old in replaced[number] if old in wants for finding in wants[old].findings]
            changes.append(
                RpmChange(
                    new=universe.package(number),
                    old=olds[0] if olds else None,
                    obsoleted=tuple(olds[1:]),
                    findings=tuple(dict.fromkeys(found)),
                    required_by=() if number in asked else self._required_by(number, needs, replaced, asked),
                )
            )
        return tuple(changes)

    def _by_name(self, numbers: Collection[int]) -> list[int]:
        return sorted(numbers, key=lambda number: self._universe.package(number).nevra)

    def _replaced_by(self, number: int, solution: RpmSolution) -> list[int]:
        """Return the installed packages whose place it takes, the one of its own name first."""
        universe = self._universe
        name = universe.package(number).name
        same = [
            old
            for old in universe.present(name)
            if old not in solution.chosen and number in {*universe.updates(old)} and universe.package(old).name == name
        ]
        obsoleted = [old for old in universe.obsoleted(number) if universe.is_installed(old)]
        return list(dict.fromkeys([*same, *obsoleted]))

    def _required_by(
        self,
        number: int,
        needs: Mapping[int, Sequence[int]],
        replaced: Mapping[int, Sequence[int]],
        asked: Collection[int],
    ) -> tuple[str, ...]:
        """Who needs it; or who doesn't go with the old one; or else all that was asked for."""
        universe = self._universe
        causes = [other for other, needed in needs.items() if number in needed]
        if not causes and replaced[number]:
            result = frozenset(
                n for n in (*universe.installed, *needs) if not any(n in old for old in replaced.values())
            )
            clauses = Clauses(universe)
            for old in replaced[number]:
                causes += [other for other in needs if (-other, -old) in clauses.about(other)]
                for need in clauses.needs(old):
                    if not any(n in result for n in need.clause):
                        causes += [other for other in needs if set(replaced[other]) & set(need.clause)]
        names = {universe.package(other).name for other in causes if other != number}
        return tuple(sorted(names or {universe.package(other).name for other in asked}))

    def _skipped(self, solution: RpmSolution, aims: Sequence[_Aim], untried: Collection[int]) -> tuple[Skipped, ...]:
        explainer = RpmExplainer(self._universe, solution, self._reason)
        found: list[Skipped] = []
        for aim in aims:
            package = aim.want.package
            if (package.name, package.architecture) in self._frozen or self._is_reached(aim, solution):
                continue
            if package.held:
                if aim.want.needed or aim.fitting:
                    found.append(aim.want.skip(SkipReason.HELD, "the image holds it at its version"))
            elif aim.fitting:
                best = aim.fitting[-1]
                unknown = _GIVEN_UP if aim.number in untried else "no consistent set of packages has it"
                why = unknown if aim.number in untried else explainer.why_not(best) or unknown
                detail = f"{self._universe.package(best).evr} is offered, but {why}"
                found.append(aim.want.skip(SkipReason.DEPENDENCY, detail))
            elif withheld := self._withheld(aim):
                found.append(aim.want.skip(SkipReason.VENDOR, withheld))
            elif aim.want.needed:
                found.append(aim.want.skip(SkipReason.NO_CANDIDATE, f"{aim.want.needed}, {self._best(aim)}"))
        return tuple(found)

    def _is_reached(self, aim: _Aim, solution: RpmSolution) -> bool:
        if self._universe.is_install_only(aim.number):
            return any(number in solution.chosen for number in aim.fitting)
        if aim.number in solution.chosen:
            return False
        return not any(n in solution.chosen and n not in aim.fitting for n in aim.newer)

    def _withheld(self, aim: _Aim) -> str:
        """Why newer versions don't count that would do."""
        universe = self._universe
        old = universe.package(aim.number)
        found = ""
        for number in universe.newest_first(universe.named(old.name))[::-1]:
            if universe.compare(number, aim.number) > 0 and self._fixes(aim.want, number):
                found = universe.rules.withheld(old, universe.package(number)) or found
        return found

    def _best(self, aim: _Aim) -> str:
        universe = self._universe
        best = (
            f"the newest offered is {universe.package(aim.newer[-1]).evr}"
            if aim.newer
            else "no newer version is offered"
        )
        heirs = [other for other in universe.updates(aim.number) if other not in aim.newer]
        name = universe.package(aim.number).name
        return best + (f"; {universe.package(heirs[0])} is offered in place of {name}" if heirs else "")

    def _notes(self, solution: RpmSolution) -> list[str]:
        universe = self._universe
        offers = [universe.package(number) for number in self._by_name(solution.ordered)]
        beside = [o for o in offers if any(universe.is_install_only(n) for n in universe.present(o.name))]
        return [f"{o} comes in beside the {o.name} that is installed, and that stays, as with dnf" for o in beside]
