# SPDX-License-Identifier: Apache-2.0
"""
Which findings of a report count: all that stands between reports and matching.

A report says everything, the policy says what of it is asked for, and what is left out keeps its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from copacetic.progress import Progress
from copacetic.report.grammar import is_os
from copacetic.updates import Finding, Report

__all__ = ["IgnoredFinding", "Policy", "apply_policy", "select"]


class Policy(Struct, frozen=True, kw_only=True):
    """What is asked for; the default is every finding about the distribution's packages."""

    package_types: frozenset[str] = frozenset({"os"})
    """`os`, `library`."""


class IgnoredFinding(Struct, frozen=True, kw_only=True):
    """A finding that doesn't count."""

    finding: Finding
    reason: str
    """A plural, as in `12 with other package types`."""


def select(findings: Iterable[Finding], policy: Policy) -> tuple[tuple[Finding, ...], tuple[IgnoredFinding, ...]]:
    """Return the findings that count, in their order, and the others."""
    kept: list[Finding] = []
    ignored: list[IgnoredFinding] = []
    for finding in findings:
        reason = _against(finding, policy)
        if reason:
            ignored.append(IgnoredFinding(finding=finding, reason=reason))
        else:
            kept.append(finding)
    return tuple(kept), tuple(ignored)


def apply_policy(reports: Sequence[Report], policy: Policy, progress: Progress) -> tuple[Report, ...]:
    """Return the reports without the findings that don't count, and note for each file what is left out of it."""
    kept: list[Report] = []
    reasons: dict[str, Counter[str]] = {}
    for report in reports:
        findings, ignored = select(report.findings, policy)
        kept.append(replace(report, findings=findings))
        counted = reasons.setdefault(report.path, Counter())
        counted.update(report.unreadable)
        counted.update(one.reason for one in ignored)
    for path, counted in reasons.items():
        if counted:
            what = ", ".join(f"{count} with {reason}" for reason, count in sorted(counted.items()))
            progress.note(f"{path}: rows left out: {what}")
    return tuple(kept)


def _against(finding: Finding, policy: Policy) -> str:
    kind = "os" if is_os(finding.package_type) else "library"
    return "" if kind in policy.package_types else "other package types"
