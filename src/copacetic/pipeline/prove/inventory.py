# SPDX-License-Identifier: Apache-2.0
"""The proof of inventory: exactly the planned packages differ, no dependency is newly broken, the fixes are there."""

from __future__ import annotations

from collections.abc import Iterable

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase
from copacetic.pipeline.plan.match import match_findings
from copacetic.updates import FindingStatus, InstalledPackage, MatchedFinding, Plan

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
    expected = {(p.name, p.architecture): p.version for p in before}
    for update in plan.updates:
        if update.installed is not None:
            expected.pop((update.installed.name, update.installed.architecture), None)
        expected[update.candidate.name, update.candidate.architecture] = update.candidate.version
    actual = {(p.name, p.architecture): p.version for p in after}
    for key in sorted(expected.keys() | actual.keys()):
        if expected.get(key) != actual.get(key):
            name = ":".join(key)
            message = (
                f"{name}: expected {expected.get(key, 'nothing')}, found {actual.get(key, 'nothing')} in the result"
            )
            raise VerificationError(message)


def _check_finished(plan: Plan, after: Iterable[InstalledPackage]) -> None:
    planned = {(update.candidate.name, update.candidate.architecture) for update in plan.updates}
    for package in after:
        if package.state and (package.name, package.architecture) in planned:
            raise VerificationError(f"{package.name} {package.version} is {package.state} in the result")


def _check_findings(plan: Plan, matched: tuple[MatchedFinding, ...]) -> None:
    """Every finding that was fixable is fixed, unless the plan says that its package stays."""
    skipped = {f"{s.package.name}:{s.package.architecture}" for s in plan.skipped}
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
