# SPDX-License-Identifier: Apache-2.0
"""
Plans as documents: what `copa plan --format json` writes, and `planfile` reads.

Every field is described in `docs/reference/json.md`. A plan carries addresses and digests of every package, so
applying it gives the same layer wherever and whenever that happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from copacetic.documents import write_document
from copacetic.updates import Finding, MatchedFinding, Origin, Plan, PlannedUpdate, Section, Skipped

__all__ = ["finding_document", "plan_document", "write_plans"]


def write_plans(plans: Sequence[Plan]) -> bytes:
    """Encode plans as one document."""
    return write_document("plan", {"plans": [plan_document(plan) for plan in plans]})


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return one plan as the documented object."""
    return {
        "image": plan.image,
        "imageDigest": str(plan.image_digest),
        "platform": str(plan.platform),
        "distro": plan.distro,
        "strategy": str(plan.strategy),
        "downloadSize": plan.download_size,
        "sections": [_write_section(section) for section in plan.sections],
        "findings": None if plan.matched is None else [finding_document(matched) for matched in plan.matched],
        "notes": plan.image_notes,
        "strategyReason": plan.strategy_reason,
    }


def finding_document(matched: MatchedFinding) -> dict[str, Any]:
    """Return one finding as the documented object."""
    finding = matched.finding
    fixes = finding.fixes
    return {
        "vulnerabilityId": finding.vulnerability_id,
        "package": finding.package,
        "installedVersion": finding.installed_version,
        "fixes": fixes if fixes is None else [{"version": fix.version, "isSource": fix.is_source} for fix in fixes],
        "severity": finding.severity,
        "packageType": finding.package_type,
        "status": str(matched.status),
        "packages": [str(key) for key in matched.packages],
        "architecture": finding.architecture,
        "namesSource": finding.names_source,
        "aliases": finding.aliases,
        "purl": finding.purl,
        "locations": finding.locations,
    }


def _write_section(section: Section) -> dict[str, Any]:
    distinct = dict.fromkeys((*section.origins, *(update.candidate.origin for update in section.updates)))
    origins = {origin: position for position, origin in enumerate(distinct)}
    return {
        "packageType": section.package_type,
        "updates": [_write_update(update, origins[update.candidate.origin]) for update in section.updates],
        "skipped": [_write_skipped(skipped) for skipped in section.skipped],
        "repositories": [_write_origin(origin) for origin in origins],
        "notes": section.notes,
    }


def _write_update(update: PlannedUpdate, repository: int) -> dict[str, Any]:
    candidate = update.candidate
    return {
        "name": candidate.name,
        "architecture": candidate.architecture,
        "installedVersion": update.installed.version if update.installed else None,
        "version": candidate.version,
        "sourceName": candidate.source_name,
        "sourceVersion": candidate.source_version,
        "url": candidate.url,
        "size": candidate.size,
        "sha256": candidate.sha256,
        "repository": repository,
        "findings": _ids(update.findings),
        "requiredBy": update.required_by,
        "scripts": [{"script": s.script, "verdict": str(s.verdict), "reason": s.reason} for s in update.scripts],
    }


def _write_skipped(skipped: Skipped) -> dict[str, Any]:
    return {
        "name": skipped.package.name,
        "architecture": skipped.package.architecture,
        "installedVersion": skipped.package.version,
        "reason": str(skipped.reason),
        "detail": skipped.detail,
        "findings": _ids(skipped.findings),
    }


def _write_origin(origin: Origin) -> dict[str, str]:
    return {
        "uri": origin.uri,
        "suite": origin.suite,
        "component": origin.component,
        "label": origin.label,
        "definedIn": origin.defined_in,
        "signedBy": origin.signed_by,
        "tag": origin.tag,
        "sha256": origin.sha256,
        "notVerified": origin.not_verified,
    }


def _ids(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.vulnerability_id for finding in findings))
