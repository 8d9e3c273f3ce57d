# SPDX-License-Identifier: Apache-2.0
"""
Which of several fixed versions counts for an installed one, and whether a package has what a finding asks for.

A vulnerability that is fixed in 2.5.3 and in 2.6.1 is closed in 2.5.9, and open in 2.6.0: the fix of a version's own
branch counts. Nobody says where a branch begins, so it is told by what a version has in common with its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Protocol

from copacetic.errors import InvalidVersionError
from copacetic.version import parse_version

__all__ = ["FixedPackage", "FixingFinding", "fix_ahead", "has_fix"]


class FixedPackage(Protocol):
    """A package, installed or offered, whose source has a version of its own."""

    @property
    def version(self) -> str: ...
    @property
    def source_version(self) -> str: ...


class _Fix(Protocol):
    @property
    def version(self) -> str: ...
    @property
    def is_source(self) -> bool: ...


class FixingFinding(Protocol):
    """What a report says of a vulnerability's fixes."""

    @property
    def installed_version(self) -> str: ...
    @property
    def fixes(self) -> Sequence[_Fix] | None: ...


_PARTS = re.compile(r"[0-9]+|[A-Za-z]+|~")


def fix_ahead(scheme: str, version: str, fixes: Sequence[str], *, reported: str = "") -> str | None:
    """
    Return the fix that a version has yet to reach; None when it has that of its branch, and where there are no fixes.

    `reported` is the version that somebody found vulnerable: what was fixed at or below it is another branch's.
    Raises `InvalidVersionError` for what can't be compared, other than `reported`.
    """
    own = parse_version(scheme, version)
    known = {fix: parse_version(scheme, fix) for fix in fixes}
    if len(known) > 1 and reported:
        with suppress(InvalidVersionError):
            vulnerable = parse_version(scheme, reported)
            known = {fix: parsed for fix, parsed in known.items() if vulnerable < parsed} or known
    above = [fix for fix, parsed in known.items() if own < parsed]
    if not above:
        return None
    ahead = min(above, key=known.__getitem__)
    if len(above) == len(known):
        return ahead
    reached = max((fix for fix in known if fix not in above), key=known.__getitem__)
    is_fix = not known[reached] < own
    return None if is_fix or _in_common(version, reached) > _in_common(version, ahead) else ahead


def has_fix(
    scheme: str, package: FixedPackage, finding: FixingFinding, spell: Callable[[str, str], str] | None = None
) -> bool:
    """
    Tell whether a package has a finding's fix, those of sources and of packages each held against its own version.
    `spell` writes a fix as versions like the package's are written. Raises `InvalidVersionError`.
    """
    fixes = finding.fixes or ()
    for is_source in dict.fromkeys(fix.is_source for fix in fixes):
        version = package.source_version if is_source else package.version
        own = [fix.version for fix in fixes if fix.is_source == is_source]
        spelled = [spell(fix, version) for fix in own] if spell is not None else own
        if fix_ahead(scheme, version, spelled, reported=finding.installed_version) is not None:
            return False
    return True


def _in_common(one: str, other: str) -> int:
    """Count the parts that two versions begin with alike; an absent epoch is 0."""
    first, second = (_PARTS.findall(text if ":" in text else f"0:{text}") for text in (one, other))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
