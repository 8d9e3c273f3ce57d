# SPDX-License-Identifier: Apache-2.0
"""From which version a package came to the one that is there, as the databases of an image's lower layers tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from copacetic.updates import PackageKey

__all__ = ["Versions", "earlier_versions"]

Versions = Mapping[PackageKey, str]
"""What a database has installed."""


def earlier_versions(now: Versions, before: Sequence[Versions]) -> Versions:
    """
    Return the version before the installed one of each package that was there all the time; `before` are older states
    of the database, the oldest first.
    """
    found: dict[PackageKey, str] = {}
    for key, version in now.items():
        for state in reversed(before):
            earlier = state.get(key, "")
            if earlier != version:
                if earlier:
                    found[key] = earlier
                break
    return found
