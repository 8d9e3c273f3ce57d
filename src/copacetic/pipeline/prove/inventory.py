# SPDX-License-Identifier: Apache-2.0
"""The proof of inventory: exactly the planned packages differ, no dependency is newly broken, the fixes are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.pipeline.plan.match import match_findings
from copacetic.updates import FindingStatus, InstalledPackage, MatchedFinding, PackageKey, Plan

__all__ = ["check_inventory"]


def check_inventory(plan: Plan, before: PackageDatabase, after: PackageDatabase) -> tuple[MatchedFinding, ...] | None:
    """
    Hold the packages, the dependencies and the fixes of the composed image against the plan.

    Returns the report's findings as they stand in the result (None without a report); raises `VerificationError`.
    """
    _check_packages(plan, before.packages(), after.packages())
    _check_finished(plan, after.packages())
    newly_broken = after.broken_dependencies() - before.broken_dependencies()
    if newly_broken:
        raise VerificationError(f"the result breaks a dependency: {min(newly_broken)}")
    if plan.matched is None:
        return None
    matched, _ = match_findings((m.finding for m in plan.matched), after)
    _check_findings(plan, matched)
    return matched


def _check_packages(plan: Plan, before: Iterable[InstalledPackage], after: Iterable[InstalledPackage]) -> None:
    """Exactly the planned packages differ."""
    expected = Counter((package.key, package.version) for package in before)
    expected.subtract((u.installed.key, u.installed.version) for u in plan.updates if u.installed is not None)
    expected.update((update.key, update.candidate.version) for update in plan.updates)
    actual = Counter((package.key, package.version) for package in after)
    differing = [one[0] for one in expected.keys() | actual.keys() if expected[one] != actual[one]]
    if differing:
        key = min(differing)
        wanted, found = (_versions(side, key) for side in (expected, actual))
        raise VerificationError(f"{key}: expected {wanted}, found {found} in the result")


def _versions(packages: Mapping[tuple[PackageKey, str], int], wanted: PackageKey) -> str:
    versions = sorted(version for (key, version), count in packages.items() if key == wanted for _ in range(count))
    return " and ".join(versions) or "nothing"


def _check_finished(plan: Plan, after: Iterable[InstalledPackage]) -> None:
    planned = {update.key for update in plan.updates}
    for package in after:
        if package.state and package.key in planned:
            raise VerificationError(f"{package.name} {package.version} is {package.state} in the result")


def _check_findings(plan: Plan, matched: tuple[MatchedFinding, ...]) -> None:
    """Every finding that was fixable is fixed, unless the plan says that its package stays."""
    skipped = {skipped.package.key for skipped in plan.skipped}
    for old, new in zip(plan.matched or (), matched, strict=True):
        if old.status is not FindingStatus.FIXABLE or skipped.intersection(old.packages):
            continue
        if new.status is not FindingStatus.ALREADY_FIXED:
            finding = new.finding
            message = (
                f"{finding.vulnerability_id} is not fixed in the result: {finding.package} needs "
                f"{' and '.join(finding.fixed_versions)}"
            )
            raise VerificationError(message)
