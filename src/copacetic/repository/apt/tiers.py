# SPDX-License-Identifier: Apache-2.0
"""
In which order repositories are asked when a report says what is wanted, and which are the distribution's own.

Own is an address that has a suite of updates or of security fixes of the image's release, and what lies at its side.
Where none has one, own is what stands in the files that distributions ship: others put theirs into files of their own.
Before anything is fetched, nothing else tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from copacetic.distro import Distro
from copacetic.repository.apt.release import Release
from copacetic.repository.apt.sources import AptSource

__all__ = ["OfferedIndex", "Unread", "is_own", "order_tiers"]

_SECURITY = ("-security", "/updates")
_UPDATES = "-updates"


class OfferedIndex(Struct, frozen=True):
    """An index that may be fetched."""

    release: Release
    component: str


class Unread:
    """An index of which nothing is known but its address."""

    component = ""

    def __init__(self, source: AptSource) -> None:
        self.release: Any = self
        self.source = source
        self.not_automatic = self.but_automatic_upgrades = False

    def field(self, _name: str) -> str:
        return ""


def is_own(source: AptSource, all_sources: Sequence[AptSource], distro: Distro) -> bool:
    """Tell whether a repository is the distribution's; all are where none looks like it."""
    own = {one.uri for one in all_sources if _has_fixes(one, distro)}
    own = own or {one.uri for one in all_sources if _is_shipped(one, distro)}
    return not own or source.uri in own


def order_tiers(sources: Sequence[AptSource], distro: Distro) -> list[list[AptSource]]:
    """
    Security suites first, and the repositories of others, for a decision between theirs and the distribution's needs
    both; then the -updates, then the rest: most fixes need no more than the first.
    """
    tiers: list[list[AptSource]] = [[], [], []]
    for source in sources:
        if source.suite.endswith(_SECURITY) or not is_own(source, sources, distro):
            tiers[0].append(source)
        else:
            tiers[1 if source.suite.endswith(_UPDATES) else 2].append(source)
    return [tier for tier in tiers if tier]


def _is_shipped(source: AptSource, distro: Distro) -> bool:
    families = "|".join(re.escape(name) for name in (distro.id, *distro.id_like))
    return (
        re.match(rf"etc/apt/(?:sources\.list|sources\.list\.d/(?:{families})\.(?:list|sources))[: ]", source.defined_in)
        is not None
    )


def _has_fixes(source: AptSource, distro: Distro) -> bool:
    """Tell whether a suite is one that comes with the release: what is sold besides has longer names."""
    names = (distro.codename, "stable") if distro.codename else (source.suite.partition("-")[0].partition("/")[0],)
    return source.suite in {f"{name}{end}" for name in names for end in (*_SECURITY, _UPDATES)}
