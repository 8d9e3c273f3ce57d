# SPDX-License-Identifier: Apache-2.0
"""Repositories in memory, as a resolver sees them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from copacetic.repository.rpm.offer import RpmOffer, RpmOfferSource

__all__ = ["Offered"]


class Offered:
    """All packages of some repositories."""

    def __init__(self, offers: Iterable[RpmOffer]) -> None:
        self.offers = tuple(offers)
        self._named: dict[str, list[RpmOffer]] = defaultdict(list)
        self._providing: dict[str, list[RpmOffer]] = defaultdict(list)
        self._obsoleting: dict[str, list[RpmOffer]] = defaultdict(list)
        for offer in self.offers:
            self._named[offer.name].append(offer)
            for name in dict.fromkeys([offer.name, *(provided.name for provided in offer.provides), *offer.files]):
                self._providing[name].append(offer)
            for name in dict.fromkeys(obsolete.name for obsolete in offer.obsoletes):
                self._obsoleting[name].append(offer)

    def named(self, name: str) -> Iterable[RpmOffer]:
        return self._named.get(name, ())

    def providing(self, name: str) -> Iterable[RpmOffer]:
        return self._providing.get(name, ())

    def obsoleting(self, name: str) -> Iterable[RpmOffer]:
        return self._obsoleting.get(name, ())


_: type[RpmOfferSource] = Offered
