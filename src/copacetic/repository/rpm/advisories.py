# SPDX-License-Identifier: Apache-2.0
"""What repositories' advisories say of changes, for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from copacetic.errors import InvalidVersionError
from copacetic.repository.rpm.resolver import RpmChange
from copacetic.repository.rpm.updateinfo import SEVERITIES, Advisory
from copacetic.version import compare_versions

__all__ = ["describe_advisories"]

_MAX_NOTES = 30
_MAX_NAMES = 10


def describe_advisories(advisories: Iterable[Advisory], changes: Sequence[RpmChange]) -> list[str]:
    """Say which advisories changes carry out, and what those close: the most severe first."""
    coming = {(change.new.name, change.new.architecture): change for change in changes}
    found: dict[str, tuple[Advisory, dict[str, None]]] = {}
    for advisory in advisories:
        for name, evr, architecture in advisory.packages:
            change = coming.get((name, architecture))
            if change is not None and _carries_out(change, evr):
                found.setdefault(advisory.id, (advisory, {}))[1][name] = None
    rows = sorted(found.values(), key=lambda row: (-_rank(row[0]), row[0].id))
    notes = [_describe(advisory, list(names)) for advisory, names in rows[:_MAX_NOTES]]
    if len(rows) > _MAX_NOTES:
        left: dict[str, int] = defaultdict(int)
        for advisory, _ in rows[_MAX_NOTES:]:
            left[advisory.severity or advisory.kind] += 1
        notes.append("further advisories: " + ", ".join(f"{count} {kind}" for kind, count in left.items()))
    return notes


def _carries_out(change: RpmChange, evr: str) -> bool:
    try:
        if compare_versions("rpm", evr, change.new.evr) > 0:
            return False
        return change.old is None or compare_versions("rpm", evr, change.old.version) > 0
    except InvalidVersionError:
        return False


def _rank(advisory: Advisory) -> int:
    return SEVERITIES.index(advisory.severity) if advisory.severity else -1


def _describe(advisory: Advisory, names: list[str]) -> str:
    kind = " ".join(filter(None, (advisory.severity, advisory.kind)))
    return f"{advisory.id} ({kind}) for {_some(names)}" + (f": {_some(advisory.cves)}" if advisory.cves else "")


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:_MAX_NAMES]) + (", …" if len(words) > _MAX_NAMES else "")
