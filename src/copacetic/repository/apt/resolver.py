# SPDX-License-Identifier: Apache-2.0
"""
From what is wanted to a set of packages that is consistent.

The resulting set decides: what was broken before is left alone, what would be newly broken is mended by upgrading
along or by a new dependency, and where that fails the change that caused it is given up, with the reason. Nothing is
ever removed. The outcome depends on the input only, never on the order of dictionaries or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from copacetic.deb.deb822 import stanza_of
from copacetic.deb.fix import is_fixed
from copacetic.deb.relation import Broken, Package, Relation, RelationError, broken_relations, unreadable_relations
from copacetic.errors import InvalidVersionError, RepositoryError
from copacetic.updates import Candidate, InstalledPackage, PackageKey, PlannedUpdate, Skipped, SkipReason, Wanted
from copacetic.version import compare_versions, parse_version

MAX_STEPS = 5_000


class Offers(Struct, frozen=True, kw_only=True):
    """What the consulted repositories have, as the pins order it."""

    upgrades: Callable[[InstalledPackage], Sequence[Candidate]]
    """Newer versions that may replace an installed package, the oldest first."""
    withheld: Callable[[InstalledPackage], str]
    """Why newer versions that are offered don't count, for people; empty when all do."""
    additions: Callable[[Relation, str], Sequence[Candidate]]
    """Packages that would satisfy a relation and aren't installed, the best first; the second is the architecture."""


@dataclass(slots=True)
class _State:
    """The changes of one attempt."""

    changes: dict[PackageKey, Candidate] = field(default_factory=dict)
    required_by: dict[PackageKey, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _GivenUpError(Exception):
    """A change can't be part of any consistent set; the attempt starts again without it."""

    key: PackageKey
    reason: str


class AptResolver:
    """Resolves one request; `exhaustive` takes the newest versions, otherwise the closest that are enough."""

    def __init__(
        self,
        installed: Sequence[InstalledPackage],
        native: str,
        offers: Offers,
        *,
        exhaustive: bool,
        frozen: Mapping[PackageKey, str],
    ) -> None:
        self._installed = {p.key: p for p in installed}
        self._partial = frozenset(p.name for p in installed if p.partial)
        self._native = native
        self._offers = offers
        self._exhaustive = exhaustive
        self._blocked = dict(frozen)
        self._frozen = frozenset(frozen)
        self._before = self._broken(self._installed)

    def resolve(self, wanted: Sequence[Wanted]) -> tuple[tuple[PlannedUpdate, ...], tuple[Skipped, ...]]:
        """Return what changes and what was wanted but stays."""
        chosen, skipped = self._choose(wanted)
        while True:
            state = _State(changes={k: c for k, (_, c) in chosen.items() if k not in self._blocked})
            try:
                self._mend(state)
            except _GivenUpError as given_up:
                self._blocked[given_up.key] = given_up.reason
                continue
            break
        for key, (want, _) in chosen.items():
            if key in self._blocked and key not in self._frozen:
                skipped.append(want.skip(SkipReason.DEPENDENCY, self._blocked[key]))
        skipped.sort(key=lambda s: s.package.key)
        return self._planned(state, chosen), tuple(skipped)

    def _choose(self, wanted: Sequence[Wanted]) -> tuple[dict[PackageKey, tuple[Wanted, Candidate]], list[Skipped]]:
        chosen: dict[PackageKey, tuple[Wanted, Candidate]] = {}
        skipped: list[Skipped] = []
        for want in wanted:
            package = want.package
            key = package.key
            if key in self._frozen:
                continue
            newer = self._upgrades(package)
            fitting = [c for c in newer if _fixes(want, c)]
            if package.held:
                if want.needed or fitting:
                    skipped.append(want.skip(SkipReason.HELD, "the image holds it at its version"))
            elif fitting:
                chosen[key] = (want, self._pick(fitting))
            elif withheld := self._offers.withheld(package):
                skipped.append(want.skip(SkipReason.VENDOR, withheld))
            elif want.needed:
                best = f"the newest offered is {newer[-1].version}" if newer else "no newer version is offered"
                odd = next(filter(None, map(unreadable_relations, self._offers.upgrades(package))), "")
                best += f" that can be read ({odd})" if odd else ""
                skipped.append(want.skip(SkipReason.NO_CANDIDATE, f"{want.needed}, {best}"))
        return chosen, skipped

    def _upgrades(self, package: InstalledPackage) -> list[Candidate]:
        """What can take a package's place, without that whose relations nobody can read."""
        return [candidate for candidate in self._offers.upgrades(package) if not unreadable_relations(candidate)]

    def _pick(self, candidates: Sequence[Candidate]) -> Candidate:
        return candidates[-1] if self._exhaustive else candidates[0]

    def _mend(self, state: _State) -> None:
        """Repair what the changes break, one thing at a time, until nothing is left."""
        for _ in range(MAX_STEPS):
            result: dict[PackageKey, InstalledPackage | Candidate] = {**self._installed, **state.changes}
            apart = self._apart(state, result)
            if apart is not None:
                self._upgrade_or_give_up(state, apart[0], apart[1], because=f"{apart[1]} must match")
                continue
            broken = self._broken(result)
            new = next((broken[text] for text in broken if text not in self._before), None)
            if new is None:
                return
            if new.offender is None:
                self._satisfy(state, new)
            else:
                self._separate(state, new)
        raise RepositoryError("no consistent set of updates was found: too many steps")

    def _broken(self, packages: Mapping[PackageKey, InstalledPackage | Candidate]) -> dict[str, Broken]:
        ordered = [packages[key] for key in sorted(packages)]
        try:
            return {_identity(one): one for one in broken_relations(ordered, self._native, partial=self._partial)}
        except RelationError as error:
            raise RepositoryError(str(error)) from error

    def _apart(
        self, state: _State, result: Mapping[PackageKey, InstalledPackage | Candidate]
    ) -> tuple[PackageKey, PackageKey] | None:
        """Find a package whose other architecture is changed: `Multi-Arch: same` wants equal versions."""
        for key in sorted(state.changes):
            candidate = state.changes[key]
            if stanza_of(candidate).fields.get("Multi-Arch") != "same":
                continue
            for other in sorted(result):
                if other.name == key.name and other != key and result[other].version != candidate.version:
                    return other, key
        return None

    def _upgrade_or_give_up(self, state: _State, key: PackageKey, cause: PackageKey, *, because: str) -> None:
        version = state.changes[cause].version
        if not self._upgrade(state, key, lambda c: c.version == version, cause.name):
            raise _GivenUpError(cause, f"{key} can't be {version}: {because}")

    def _satisfy(self, state: _State, broken: Broken) -> None:
        owner = _key(broken.package)
        for relation in broken.group:
            for key in self._named(relation):
                if self._upgrade(state, key, lambda c, r=relation: r.accepts(c.version), owner.name):  # type: ignore[misc]
                    return
        if owner in state.changes:
            for relation in broken.group:
                if self._add(state, relation, owner):
                    return
            raise _GivenUpError(owner, str(broken) + self._why_not(broken.group))
        # An installed package lost what it needs: it comes along, or what it lost stays.
        if self._upgrade(state, owner, lambda _: True, broken.group[0].name):
            return
        for relation in broken.group:
            for key in sorted(state.changes):
                if key.name == relation.name or _provides(self._installed.get(key), relation.name):
                    raise _GivenUpError(key, str(broken))
        raise _GivenUpError(self._any_change(state), str(broken))

    def _separate(self, state: _State, broken: Broken) -> None:
        owner = _key(broken.package)
        assert broken.offender is not None
        offender = _key(broken.offender)
        relation = broken.group[0]
        for key, fits in ((offender, lambda c: not relation.accepts(c.version)), (owner, lambda _: True)):
            if key not in state.changes and self._upgrade(state, key, fits, owner.name):
                return
        culprit = next((key for key in (owner, offender) if key in state.changes), None)
        raise _GivenUpError(culprit or self._any_change(state), str(broken))

    def _any_change(self, state: _State) -> PackageKey:
        if not state.changes:
            raise RepositoryError("the image's own packages contradict each other")
        return max(state.changes)

    def _why_not(self, group: Iterable[Relation]) -> str:
        reasons = [
            self._blocked[key] for relation in group for key in sorted(self._blocked) if key.name == relation.name
        ]
        return f" ({reasons[0]})" if reasons else ""

    def _named(self, relation: Relation) -> list[PackageKey]:
        return sorted(key for key in self._installed if key.name == relation.name)

    def _upgrade(self, state: _State, key: PackageKey, fits: Callable[[Candidate], bool], by: str) -> bool:
        """Let an installed package come along; tell whether one of its versions fits that isn't chosen already."""
        package = self._installed.get(key)
        if package is None or package.held or key in self._blocked:
            return False
        present = state.changes.get(key)
        newer = [c for c in self._upgrades(package) if fits(c)]
        if present is not None:
            newer = [c for c in newer if compare_versions("deb", c.version, present.version) > 0]
        if not newer:
            return False
        state.changes[key] = self._pick(newer)
        state.required_by.setdefault(key, set()).add(by)
        return True

    def _add(self, state: _State, relation: Relation, owner: PackageKey) -> bool:
        architecture = self._native if owner.architecture == "all" else owner.architecture
        for candidate in self._offers.additions(relation, architecture):
            key = candidate.key
            if key in self._blocked or key in self._installed or key in state.changes:
                continue
            if unreadable_relations(candidate):
                continue
            state.changes[key] = candidate
            state.required_by.setdefault(key, set()).add(owner.name)
            return True
        return False

    def _planned(
        self, state: _State, chosen: Mapping[PackageKey, tuple[Wanted, Candidate]]
    ) -> tuple[PlannedUpdate, ...]:
        updates = []
        for key in sorted(state.changes):
            want = chosen.get(key)
            updates.append(
                PlannedUpdate(
                    installed=self._installed.get(key),
                    candidate=state.changes[key],
                    findings=want[0].findings if want else (),
                    required_by=() if want else tuple(sorted(state.required_by.get(key, ()))),
                )
            )
        return tuple(updates)


def _provides(package: InstalledPackage | None, name: str) -> bool:
    return package is not None and name in stanza_of(package).fields.get("Provides", "")


def _key(package: Package) -> PackageKey:
    return PackageKey(package.name, package.architecture)


def _identity(broken: Broken) -> str:
    """Two sets are broken in the same way whatever the versions that they have: what is asked for counts."""
    wanted = " | ".join(str(relation) for relation in broken.group)
    offender = broken.offender.name if broken.offender is not None else ""
    return f"{_key(broken.package)} {broken.field} {wanted} {offender}"


def _fixes(want: Wanted, candidate: Candidate) -> bool:
    try:
        return all(is_fixed(candidate, finding) for finding in want.findings)
    except InvalidVersionError:
        return False


def sort_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates oldest first, one for each version; the first offered of equal ones stays."""
    unique: dict[str, Candidate] = {}
    for candidate in candidates:
        unique.setdefault(candidate.version, candidate)
    return sorted(unique.values(), key=lambda c: _Ordered(c.version))


class _Ordered:
    """A version as a sort key."""

    def __init__(self, text: str) -> None:
        self._version = parse_version("deb", text)

    def __lt__(self, other: _Ordered) -> bool:
        return self._version < other._version
