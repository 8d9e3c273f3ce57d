# SPDX-License-Identifier: Apache-2.0
"""
From what is wanted to changes in apk's order, by apk's own preferences.

Nothing is ever removed and nothing goes down: where apk would do that, the change that calls for it is left out, by
name. With everything wanted this is `apk upgrade`, which upgrades apk-tools first and then starts anew; with some
packages wanted only they are lifted, with what they need, and as little as is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cmp_to_key

from msgspec import Struct
from msgspec.structs import replace

from copacetic.apk.dependency import Dependency
from copacetic.apk.stanza import stanza_of
from copacetic.apk.tools import PACKAGE, ApkTools
from copacetic.errors import InvalidVersionError
from copacetic.repository.apk.explain import WORLD, Explainer
from copacetic.repository.apk.offers import Offer, OfferSource, Universe
from copacetic.repository.apk.order import Step, order_changes
from copacetic.repository.apk.solve import Pins, Solution, TooHardError, UnsolvableError, solve
from copacetic.repository.apk.vendor import Vendors
from copacetic.repository.odd import OddRows
from copacetic.updates import InstalledPackage, PackageKey, Skipped, SkipReason, Wanted
from copacetic.version import compare_versions

__all__ = ["ApkResolver", "Resolved", "ResolvedChange"]

MAX_ROUNDS = 20
MAX_SEARCHES = 200
_GIVEN_UP = "the search for a consistent set was given up"
_HIDDEN = "only the database of a lower layer lists it, which an upper layer's hides"


class ResolvedChange(Struct, frozen=True):
    """A package that is upgraded (or new, when `old` is None)."""

    old: Offer | None
    new: Offer


class Resolved(Struct, frozen=True, kw_only=True):
    """The changes in apk's order, what stays though it was wanted, and what else is worth knowing."""

    changes: tuple[ResolvedChange, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


class _Outcome(Struct):
    """One search."""

    universe: Universe
    solution: Solution
    steps: list[Step]
    kept: set[str] = set()
    """Packages that apk would remove."""
    untried: Collection[str] = ()
    """Packages about whose fixes nothing is known: there were too many that don't go together."""


class ApkResolver:
    """Resolves one request."""

    def __init__(
        self,
        installed: Sequence[InstalledPackage],
        assumed: Sequence[InstalledPackage],
        sources: Sequence[OfferSource],
        world: Sequence[Dependency],
        *,
        tools: ApkTools,
        frozen: Mapping[PackageKey, str],
        vendors: Vendors | None = None,
        odd: OddRows | None = None,
    ) -> None:
        """
        `frozen` gives reasons; without `vendors` nobody's packages are told apart; `odd` takes what can't be read.
        """
        self._vendors = vendors or Vendors()
        self._odd = odd
        self._rows = {package.name: stanza_of(package).fields for package in installed}
        self._assumed = [stanza_of(package).fields for package in assumed]
        self._sources = tuple(sources)
        self._world = tuple(world)
        self._tools = tools
        self._scheme = tools.version_scheme
        self._frozen = {key.name: reason for key, reason in frozen.items()}

    def resolve(self, wanted: Sequence[Wanted], *, exhaustive: bool) -> Resolved:
        """Raises `RepositoryError` when a repository's rows can't be read."""
        hidden = [want.skip(SkipReason.UNSUPPORTED, _HIDDEN) for want in wanted if want.package.name not in self._rows]
        wanted = [want for want in wanted if want.package.name in self._rows]
        try:
            outcome, changes = self._run({want.package.name: want for want in wanted}, exhaustive=exhaustive)
        except UnsolvableError as error:
            contradiction = "the installed packages and etc/apk/world contradict each other"
            detail = _GIVEN_UP if isinstance(error, TooHardError) else contradiction
            concerned = [want for want in wanted if want.package.name not in self._frozen]
            skipped = (*(want.skip(SkipReason.DEPENDENCY, detail) for want in concerned), *hidden)
            return Resolved(changes=(), skipped=skipped, notes=())
        return Resolved(
            changes=changes,
            skipped=(*self._skipped(wanted, outcome, changes), *hidden),
            notes=tuple(self._notes(outcome)),
        )

    def _notes(self, outcome: _Outcome) -> Iterator[str]:
        successors = {name: self._successor(outcome.universe, name) for name in sorted(outcome.kept)}
        unneeded = [name for name, successor in successors.items() if successor is None]
        if unneeded:
            them, they = ("it", "it stays") if len(unneeded) == 1 else ("them", "they stay")
            yield f"apk would remove {', '.join(unneeded)}, as nothing needs {them} any more: {they}"
        for name, successor in successors.items():
            if successor is not None:
                yield f"apk would remove {name}, as {successor} is to take its place: it stays"
        chosen = outcome.solution.chosen.values()
        for dependency in self._world:
            if not outcome.universe.is_met(dependency, chosen):
                yield f"{WORLD} asks for {dependency}, which the image doesn't meet"

    def _successor(self, universe: Universe, name: str) -> Offer | None:
        """Return another package that is offered under the name of an installed one."""
        offers = (offer for offer, version in universe.providers.get(name, ()) if version is not None and offer.sources)
        return next((offer for offer in offers if offer.name != name), None)

    def _run(self, wishes: Mapping[str, Wanted], *, exhaustive: bool) -> tuple[_Outcome, tuple[ResolvedChange, ...]]:
        """Search once, or twice when apk-tools is wanted: it comes first, and the new one does the rest."""
        rows = dict(self._rows)
        steps: list[Step] = []
        own = {name: want for name, want in wishes.items() if name == PACKAGE}
        for phase in [own, wishes] if own else [wishes]:
            universe = Universe(
                list(rows.values()),
                self._sources,
                self._world,
                scheme=self._scheme,
                assumed=self._assumed,
                odd=self._odd,
            )
            outcome = self._upgrade(universe, phase) if exhaustive else self._fix(universe, phase)
            steps += outcome.steps
            rows |= {step.new.name: step.new.fields for step in outcome.steps if step.new is not None}
        return outcome, _merge(steps)

    def _upgrade(self, universe: Universe, wishes: Mapping[str, Wanted]) -> _Outcome:
        """Lift everything that is wanted as far as it goes."""
        return self._search(
            universe,
            Pins(lifts=lambda name: name in wishes, excluded=lambda offer: self._is_excluded(universe, offer)),
        )

    def _fix(self, universe: Universe, wishes: Mapping[str, Wanted]) -> _Outcome:
        """Insist on every fix that is offered; where all together are too much, on as many as go together."""
        offered = [n for n, want in wishes.items() if n not in self._frozen and self._fitting(universe, want)]

        def search(insisted: Collection[str]) -> _Outcome:
            def excluded(offer: Offer) -> bool:
                too_old = offer.name in insisted and not self._fixes(wishes[offer.name], offer)
                return too_old or self._is_excluded(universe, offer)

            return self._search(universe, Pins(lifts=lambda _: False, closest=True, excluded=excluded))

        try:
            return search(offered)
        except UnsolvableError:
            outcome = search(())
        reached: list[str] = []
        pending = _halves(offered)
        for _ in range(MAX_SEARCHES):
            if not pending:
                break
            names = pending.pop()
            try:
                outcome = search((*reached, *names))
            except UnsolvableError:
                pending += _halves(names)
            else:
                reached += names
        return replace(outcome, untried={name for names in pending for name in names})

    def _search(self, universe: Universe, preferences: Pins) -> _Outcome:
        """What `world` asks for in vain keeps its own package as it is, and no other."""
        unmet = universe.unmet[""]
        try:
            return self._settle(universe, preferences, self._world)
        except UnsolvableError:
            if not unmet:
                raise

        def excluded(offer: Offer) -> bool:
            against = (d for d in unmet if d.name in offer.provides and not offer.installed)
            return preferences.excluded(offer) or any(
                not universe.accepts(d, offer, offer.provides[d.name]) for d in against
            )

        present = {name for offer in universe.installed.values() for name in offer.provides}
        asked = [
            d if d not in unmet else Dependency(d.name, tag=d.tag)
            for d in self._world
            if d not in unmet or d.name in present
        ]
        return self._settle(universe, replace(preferences, excluded=excluded), asked)

    def _settle(self, universe: Universe, preferences: Pins, asked: Sequence[Dependency]) -> _Outcome:
        """Search until nothing installed has to go; what apk would remove is asked for like a part of `world`."""
        kept: dict[str, None] = {}

        def excluded(offer: Offer) -> bool:
            """Another package that answers to the name of one that is kept would take its place."""
            renamed = not offer.installed and any(name in kept for name in offer.provides if name != offer.name)
            return renamed or preferences.excluded(offer)

        for _ in range(MAX_ROUNDS):
            world = [*asked, *(Dependency(name) for name in kept)]
            solution = solve(universe, world, replace(preferences, excluded=excluded))
            steps = order_changes(universe, solution, world)
            gone = [step.old.name for step in steps if step.new is None and step.old is not None]
            if not gone:
                return _Outcome(universe, solution, steps, set(kept))
            kept.update(dict.fromkeys(gone))
        raise UnsolvableError

    def _is_excluded(self, universe: Universe, offer: Offer) -> bool:
        """Nothing goes down, what is frozen stays as it is, and what a lower layer has can't be replaced."""
        if offer.installed:
            return False
        if offer.name in self._frozen or any(offer.name == other.name for other in universe.assumed):
            return True
        present = universe.installed.get(offer.name)
        down = present is not None and self._compare(offer.version, present.version) < 0
        return down or bool(self._vendors.withheld(universe, offer, self._world))

    def _fixes(self, want: Wanted, offer: Offer) -> bool:
        try:
            return all(self._tools.is_fixed(offer, finding) for finding in want.findings)
        except InvalidVersionError:
            return False

    def _compare(self, one: str, two: str) -> int:
        try:
            return compare_versions(self._scheme, one, two)
        except InvalidVersionError:
            return -1

    def _skipped(
        self, wanted: Sequence[Wanted], outcome: _Outcome, changes: Sequence[ResolvedChange]
    ) -> tuple[Skipped, ...]:
        reached = {change.new.name: change.new for change in changes}
        explainer = Explainer(outcome.universe, outcome.solution, self._world, frozen=self._frozen)
        found: list[Skipped] = []
        for want in wanted:
            name = want.package.name
            new = reached.get(name)
            if name in self._frozen or (new is not None and self._fixes(want, new)):
                continue
            newer = self._newer(outcome.universe, want.package)
            fitting = self._fitting(outcome.universe, want)
            withheld = [self._vendors.withheld(outcome.universe, offer, self._world) for offer in fitting]
            if fitting and all(withheld):
                found.append(want.skip(SkipReason.VENDOR, withheld[-1]))
            elif fitting:
                unknown = _GIVEN_UP if name in outcome.untried else "no consistent set of packages has it"
                why = explainer.why_not(fitting[-1]) or unknown
                detail = f"{fitting[-1].version} is offered, but {why}"
                found.append(want.skip(SkipReason.DEPENDENCY, detail))
            elif want.needed:
                best = f"the newest offered is {newer[-1].version}" if newer else "no newer version is offered"
                if (successor := self._successor(outcome.universe, name)) is not None:
                    best += f"; {successor} is offered in its place, and {name} would have to be removed"
                found.append(want.skip(SkipReason.NO_CANDIDATE, f"{want.needed}, {best}"))
        return tuple(sorted(found, key=lambda skipped: skipped.package.name))

    def _fitting(self, universe: Universe, want: Wanted) -> list[Offer]:
        return [offer for offer in self._newer(universe, want.package) if self._fixes(want, offer)]

    def _newer(self, universe: Universe, package: InstalledPackage) -> list[Offer]:
        """Return what is offered under a package's own name above its version, the oldest first."""
        offers = [
            offer
            for offer, _ in universe.providers.get(package.name, ())
            if offer.name == package.name and offer.sources and self._compare(offer.version, package.version) > 0
        ]

        def order(one: Offer, two: Offer) -> int:
            return self._compare(one.version, two.version)

        return sorted(offers, key=cmp_to_key(order))


def _halves(names: Sequence[str]) -> list[Sequence[str]]:
    """Split what is too much together, the first half last; what is one alone is none."""
    middle = len(names) // 2
    return [names[middle:], names[:middle]] if middle else []


def _merge(steps: Sequence[Step]) -> tuple[ResolvedChange, ...]:
    """Take together what both searches changed, where it changed first."""
    changes: dict[str, ResolvedChange] = {}
    for step in steps:
        if step.new is None:
            continue
        earlier = changes.get(step.new.name)
        changes[step.new.name] = ResolvedChange(earlier.old if earlier is not None else step.old, step.new)
    return tuple(changes.values())
