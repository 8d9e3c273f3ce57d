# SPDX-License-Identifier: Apache-2.0
"""Whose packages are, by what their headers say (see `repository.vendor`)."""

from __future__ import annotations

from collections.abc import Sequence

from copacetic.distro import Distro
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.vendor import OWN, Vendor, explain_withheld, is_allowed, is_own_name

__all__ = ["RpmVendors"]

_ALIKE = (("suse", "opensuse"), ("amazon",), ("microsoft",), ("red hat", "fedora", "centos"), ("oracle",))
"""First words of those who build for one distribution, under several names."""


class RpmVendors:
    """Keeps packages from being replaced by another vendor's."""

    def __init__(self, distro: Distro, allowed: Sequence[str]) -> None:
        self._distro = distro
        self._allowed = tuple(allowed)

    def withheld(self, old: RpmOffer, new: RpmOffer) -> str:
        """Say whose an offer is, and whose what it would replace; empty when it may, or when one doesn't say."""
        if not old.vendor or not new.vendor or is_allowed(new.name, self._allowed):
            return ""
        mine, theirs = self._vendor(old.vendor), self._vendor(new.vendor)
        return "" if mine == theirs else explain_withheld(new.name, new.evr, [theirs], [mine])

    def _vendor(self, text: str) -> Vendor:
        name = text.casefold()
        if is_own_name(text, self._distro):
            return OWN
        return next((words[0] for words in _ALIKE if name.startswith(words)), name)
