# SPDX-License-Identifier: Apache-2.0
"""Whose packages are, by the keys that sign the repositories which have them (see `repository.vendor`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from copacetic.apk.dependency import Dependency
from copacetic.distro import Distro
from copacetic.repository.apk.offers import Offer, Universe
from copacetic.repository.vendor import OWN, Vendor, explain_withheld, is_allowed, vendor_of_host
from copacetic.updates import Origin

__all__ = ["Vendors", "vendor_of"]

_ENDING = re.compile(r"(?:-[0-9a-f]{8})?\.(?:rsa\.)?pub$")


class Vendors(Struct, frozen=True):
    """The vendors of the repositories, in their order, and the packages that may change theirs."""

    by_source: tuple[Vendor, ...] = ()
    allowed: tuple[str, ...] = ()

    def withheld(self, universe: Universe, offer: Offer, world: Sequence[Dependency]) -> str:
        """Say whose an offer is, and whose what it would replace; empty when it may, as a tag in `world` says, too."""
        present = universe.installed.get(offer.name)
        if not self.by_source or present is None or offer.installed or is_allowed(offer.name, self.allowed):
            return ""
        owners, theirs = self._owners(universe, present), {self.by_source[number] for number in offer.sources}
        if not owners or not theirs or owners & theirs or any(d.name == offer.name and d.tag for d in world):
            return ""
        return explain_withheld(offer.name, offer.version, theirs, owners)

    def _owners(self, universe: Universe, present: Offer) -> set[Vendor]:
        """Who has this very package; if nobody, it is the distribution's, where that has one of the name."""
        owners = {self.by_source[number] for number in present.sources}
        if owners:
            return owners
        offers = (offer for offer, _ in universe.providers.get(present.name, ()) if offer.name == present.name)
        offered = {self.by_source[number] for offer in offers for number in offer.sources}
        return {OWN} & offered


def vendor_of(origin: Origin, distro: Distro) -> Vendor:
    """A key is called after whose it is, as `alpine-devel@lists.alpinelinux.org-58199dcc.rsa.pub`."""
    name = _ENDING.sub("", origin.signed_by).rpartition("@")[2].casefold()
    if not name:
        return vendor_of_host(origin.uri)
    return OWN if any(word in name for word in (distro.id, *distro.id_like)) else name
