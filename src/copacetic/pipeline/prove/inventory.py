# SPDX-License-Identifier: Apache-2.0
"""The proof of inventory: exactly the planned packages differ, no dependency is newly broken, the fixes are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from copacetic.errors import VerificationError
from copacetic.pipeline.plan.match import match_inventories
from copacetic.pipeline.prove.evidence import Part
from copacetic.updates import FindingStatus, MatchedFinding, PackageKey, Plan

__all__ = ["check_inventory"]


def check_inventory(plan: Plan, parts: Sequence[Part]) -> tuple[MatchedFinding, ...] | None:
    """
    Hold the packages, the dependencies and the fixes of the composed image against the plan.

    Returns the report's findings as they stand in the result (None without a report); raises `VerificationError`.
    """
    for part in parts:
        _check_packages(part)
        newly_broken = part.after.broken_dependencies() - part.before.broken_dependencies()
        if newly_broken:
            raise VerificationError(f"the result breaks a dependency: {min(newly_broken)}")
    if plan.matched is None:
        return None
    matched, _ = match_inventories((m.finding for m in plan.matched), [part.after for part in parts])
    _check_findings(plan, matched)
    return matched


def _check_packages(part: Part) -> None:
    """Exactly the planned packages differ, and they are there to the end."""
    updates = part.section.updates
    expected = Counter((package.key, package.version) for package in part.before.packages())
    expected.subtract((u.installed.key, u.installed.version) for u in updates if u.installed is not None)
    expected.update((update.key, update.candidate.version) for update in updates)
    actual = Counter((package.key, package.version) for package in part.after.packages())
    differing = [one[0] for one in expected.keys() | actual.keys() if expected[one] != actual[one]]
    if differing:
        key = min(differing)
        wanted, found = (_versions(side, key) for side in (expected, actual))
        raise VerificationError(f"{key}: expected {wanted}, found {found} in the result")
    for package in part.changed:
        if package.state:
            raise VerificationError(f"{package.name} {package.version} is {package.state} in the result")


def _versions(packages: Mapping[tuple[PackageKey, str], int], wanted: PackageKey) -> str:
    versions = sorted(version for (key, version), count in packages.items() if key == wanted for _ in range(count))
    return " and ".join(versions) or "nothing"


def _check_findings(plan: Plan, matched: tuple[MatchedFinding, ...]) -> None:
    """Every finding that was fixable is fixed, unless the plan says that its package stays."""
    staying = {one.package_type: {skipped.package.key for skipped in one.skipped} for one in plan.sections}
    for old, new in zip(plan.matched or (), matched, strict=True):
        stays = staying.get(old.finding.package_type, set()).intersection(old.packages)
        if old.status is not FindingStatus.FIXABLE or stays:
            continue
        if new.status is not FindingStatus.ALREADY_FIXED:
            finding = new.finding
            message = (
                f"{finding.vulnerability_id} is not fixed in the result: {finding.package} needs "
                f"{' and '.join(finding.fixed_versions)}"
            )
            raise VerificationError(message)
