# SPDX-License-Identifier: Apache-2.0
"""
Whose a package is, as far as that can be known: nobody's package is replaced by somebody else's without a word.

A vendor is a text: the distribution's own is "", others are what their repositories or records call themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from copacetic.distro import Distro

__all__ = [
    "OWN",
    "Vendor",
    "explain_withheld",
    "is_allowed",
    "is_own_name",
    "maintainer_of",
    "tags_of",
    "vendor_of_host",
]

Vendor = str
OWN: Vendor = ""
"""The distribution's."""

_EXTENSIONS: Mapping[str, tuple[str, ...]] = {"debian": ("freexian",)}
"""Who goes on with a distribution's releases after their end, for those that have chosen it."""
_TAG = re.compile(r"[a-z]{3,}")
_NO_TAGS = frozenset(
    ("deb", "dfsg", "bpo", "nmu", "alpha", "beta", "pre", "post", "git", "svn", "rev", "really", "repack")
)
"""Words in versions of Debian's own."""
_ADDRESS = re.compile(r"<[^<>@\s]+@([A-Za-z0-9.-]{1,253})>\s*$")


def is_own_name(name: str, distro: Distro) -> bool:
    """Tell whether a repository that calls itself so is the distribution's, one that it derives from, or its heir."""
    lowered = name.casefold()
    families = (distro.id, *distro.id_like)
    known = (*families, *(heir for family in families for heir in _EXTENSIONS.get(family, ())))
    return any(lowered.startswith(word) for word in known)


def tags_of(version: str) -> frozenset[str]:
    """Return the words in a version that vendors put there: `15.4-1.pgdg120+1` is of pgdg."""
    return frozenset(_TAG.findall(version.casefold())) - _NO_TAGS


def maintainer_of(text: str) -> str:
    """Return the organisation of a maintainer (its domain, the last two labels), empty where there is none."""
    match = _ADDRESS.search(text.strip())
    return ".".join(match[1].casefold().split(".")[-2:]) if match else ""


def is_allowed(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether the user lets a package change its vendor."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def vendor_of_host(uri: str) -> Vendor:
    """Return whose a repository is that says nothing of itself: its host's."""
    return urlsplit(uri).hostname or uri


def explain_withheld(name: str, version: str, theirs: Iterable[Vendor], mine: Iterable[Vendor]) -> str:
    """Say that a version of a package isn't taken because it is of others than the installed one."""
    others, owners = (", ".join(sorted({one or "the distribution" for one in some})) for some in (theirs, mine))
    return (
        f"{version} is offered by {others}, and the installed one is {owners}'s: --allow-vendor-change {name} takes it"
    )
