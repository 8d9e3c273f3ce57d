# SPDX-License-Identifier: Apache-2.0
"""Why an offer is not part of a solution: who holds it back, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from copacetic.apk.dependency import Dependency
from copacetic.repository.apk.offers import Offer, Universe
from copacetic.repository.apk.solve import Solution

__all__ = ["Explainer"]

WORLD = "etc/apk/world"
_DEPTH = 3


class Explainer:
    """Finds, for one solution, what speaks against other choices."""

    def __init__(
        self, universe: Universe, solution: Solution, world: Sequence[Dependency], *, frozen: Mapping[str, str]
    ) -> None:
        """`frozen` gives, by package name, the reason why it may not change."""
        self._universe = universe
        self._solution = solution
        self._world = tuple(world)
        self._frozen = frozen

    def why_not(self, offer: Offer, depth: int = _DEPTH) -> str:
        """Return the first reason, in words; "" when there is none that is this simple."""
        return (
            self._frozen_reason(offer)
            or self._downgrade(offer)
            or self._world_reason(offer)
            or self._holder(offer)
            or self._left_behind(offer)
            or self._rival(offer)
            or self._needs(offer, depth)
        )

    def _frozen_reason(self, offer: Offer) -> str:
        reason = self._frozen.get(offer.name, "")
        return f"{offer.name} {reason}" if reason else ""

    def _downgrade(self, offer: Offer) -> str:
        present = self._universe.installed.get(offer.name)
        if present is None or self._universe.compare(offer.version, present.version) >= 0:
            return ""
        return f"{present} is installed, and would have to go down to {offer.version}"

    def _world_reason(self, offer: Offer) -> str:
        for dependency in self._world:
            version = offer.provides.get(dependency.name)
            if dependency.name in offer.provides and not self._universe.accepts(dependency, offer, version):
                return f"{WORLD} {'pins' if dependency.pins else 'asks for'} {dependency}"
        tags = {self._universe.sources[number].tag for number in offer.sources} - {""}
        if tags and len(tags) == len(offer.sources) and not any(d.name == offer.name and d.tag for d in self._world):
            return f"it is only in the tagged repository @{min(tags)}, which {WORLD} doesn't ask for"
        return ""

    def _holder(self, offer: Offer) -> str:
        """A package of the solution that wants another version."""
        for holder in sorted(self._solution.chosen.values(), key=lambda other: other.name):
            if holder.name == offer.name:
                continue
            for dependency in holder.depends:
                if dependency.name not in offer.provides:
                    continue
                if not self._universe.accepts(dependency, offer, offer.provides[dependency.name]):
                    verb = "excludes" if dependency.conflict else "needs"
                    return f"{holder} {verb} {str(dependency).lstrip('!')}{self._stuck(holder)}"
        return ""

    def _left_behind(self, offer: Offer) -> str:
        """A package of the solution that needs what only the installed version provides, as virtual packages do."""
        present = self._universe.installed.get(offer.name)
        if present is None:
            return ""
        others = [other for other in self._solution.chosen.values() if other.name != offer.name]
        for holder in sorted(others, key=lambda other: other.name):
            for dependency in holder.depends:
                needed = dependency.name in present.provides and not dependency.conflict
                if needed and not self._universe.is_met(dependency, [offer, *others]):
                    return f"{holder} needs {dependency}, which {offer} doesn't provide{self._stuck(holder)}"
        return ""

    def _stuck(self, holder: Offer) -> str:
        if holder.assumed:
            return ", and is out of reach in a lower layer"
        return "" if self._newer(holder) else f", and no newer {holder.name} is offered"

    def _newer(self, offer: Offer) -> bool:
        return any(
            other.name == offer.name and self._universe.compare(other.version, offer.version) > 0
            for other, _ in self._universe.providers.get(offer.name, ())
        )

    def _rival(self, offer: Offer) -> str:
        """A package of the solution that has one of its names."""
        for name, version in offer.provides.items():
            answer = self._solution.answers.get(name)
            if answer is None or answer[0].name == offer.name:
                continue
            if version is not None or answer[1] is not None:
                return f"{answer[0]} is {name} already, and would have to be removed"
        return ""

    def _needs(self, offer: Offer, depth: int) -> str:
        """What it asks for and the solution lacks."""
        for dependency in offer.depends:
            if dependency.conflict:
                answer = self._solution.answers.get(dependency.name)
                if answer is not None and self._universe.matches(dependency, *answer):
                    return f"{offer} excludes {str(dependency)[1:]}, and {answer[0]} would have to be removed"
                continue
            if self._universe.is_met(dependency, self._solution.chosen.values()):
                continue
            able = [
                other
                for other, version in self._universe.providers.get(dependency.name, ())
                if self._universe.matches(dependency, other, version)
            ]
            if not able:
                return f"{offer} needs {dependency}, which no repository offers"
            reason = self.why_not(able[-1], depth - 1) if depth else ""
            return f"{offer} needs {dependency}: {reason}" if reason else f"{offer} needs {dependency}"
        return ""
