# SPDX-License-Identifier: Apache-2.0
"""
Plans as documents: what `copa plan --format json` writes is what `copa patch --plan` applies.

The schema is `docs/reference/json.md`. A plan carries addresses and digests of every package, so applying it gives the
same layer wherever and whenever that happens; `plan.vouch` looks who answers for them. Unknown fields are ignored, so
that a plan of a later minor version can be read; another `schemaVersion` is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from copacetic.documents import SCHEMA_VERSION, write_document
from copacetic.errors import CopaError, PlanFileError, blame_input
from copacetic.oci import Digest, Platform
from copacetic.repository.address import is_plain_address
from copacetic.updates import (
    Candidate,
    Finding,
    FindingStatus,
    InstalledPackage,
    MatchedFinding,
    Origin,
    PackageKey,
    Plan,
    PlannedUpdate,
    ScriptClass,
    ScriptVerdict,
    Skipped,
    SkipReason,
    Strategy,
)

PLAN_LIMIT = 64 * 1024 * 1024

# What a package manager's database, a file name and a terminal all accept; the format's own grammar is stricter.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,254}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~^-]{0,254}")
_TAG = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+-]{0,63})?")
_STRATEGIES = frozenset({"unpack", "exec"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SIZE = 16 * 1024**3

_Known: TypeAlias = Mapping[tuple[str, PackageKey], Finding]
"""The plan's findings by vulnerability and by a package they concern."""


class _Camel(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The documents' spelling of names."""


class _Finding(_Camel, frozen=True):
    vulnerability_id: str
    package: str
    installed_version: str
    fixed_versions: tuple[str, ...]
    severity: str
    package_type: str
    status: FindingStatus
    packages: tuple[str, ...] = ()
    architecture: str | None = None
    names_source: bool = False
    fixed_is_source_version: bool = True


class _Script(_Camel, frozen=True):
    script: str
    verdict: ScriptClass
    reason: str


class _Update(_Camel, frozen=True):
    name: str
    architecture: str
    installed_version: str | None
    version: str
    source_name: str
    source_version: str
    url: str
    size: int
    sha256: str
    repository: int
    findings: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()
    scripts: tuple[_Script, ...] = ()


class _Skipped(_Camel, frozen=True):
    name: str
    architecture: str
    installed_version: str
    reason: SkipReason
    detail: str
    findings: tuple[str, ...] = ()


class _Repository(_Camel, frozen=True):
    uri: str
    suite: str
    component: str
    label: str = ""
    defined_in: str = ""
    signed_by: str = ""
    tag: str = ""
    sha256: str = ""
    not_verified: str = ""


class _Plan(_Camel, frozen=True):
    image: str
    image_digest: str
    platform: str
    distro: str
    package_type: str
    strategy: str
    updates: tuple[_Update, ...]
    skipped: tuple[_Skipped, ...] = ()
    findings: tuple[_Finding, ...] | None = None
    repositories: tuple[_Repository, ...] = ()
    notes: tuple[str, ...] = ()
    strategy_reason: str = ""


class _Document(_Camel, frozen=True):
    schema_version: int
    kind: str
    plans: tuple[_Plan, ...]


def write_plans(plans: Sequence[Plan]) -> bytes:
    """Encode plans as one document."""
    return write_document("plan", {"plans": [plan_document(plan) for plan in plans]})


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return one plan as the documented object."""
    distinct = dict.fromkeys((*plan.origins, *(u.candidate.origin for u in plan.updates)))
    origins = {origin: position for position, origin in enumerate(distinct)}
    return {
        "image": plan.image,
        "imageDigest": str(plan.image_digest),
        "platform": str(plan.platform),
        "distro": plan.distro,
        "packageType": plan.package_type,
        "strategy": str(plan.strategy),
        "downloadSize": plan.download_size,
        "updates": [_write_update(update, origins[update.candidate.origin]) for update in plan.updates],
        "skipped": [_write_skipped(skipped) for skipped in plan.skipped],
        "findings": None if plan.matched is None else [finding_document(matched) for matched in plan.matched],
        "repositories": [_write_origin(origin) for origin in origins],
        "notes": plan.notes,
        "strategyReason": plan.strategy_reason,
    }


def finding_document(matched: MatchedFinding) -> dict[str, Any]:
    """Return one finding as the documented object."""
    finding = matched.finding
    return {
        "vulnerabilityId": finding.vulnerability_id,
        "package": finding.package,
        "installedVersion": finding.installed_version,
        "fixedVersions": finding.fixed_versions,
        "severity": finding.severity,
        "packageType": finding.package_type,
        "status": str(matched.status),
        "packages": [str(key) for key in matched.packages],
        "architecture": finding.architecture,
        "namesSource": finding.names_source,
        "fixedIsSourceVersion": finding.fixed_is_source_version,
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


def read_plans(data: bytes, *, where: str) -> tuple[Plan, ...]:
    """
    Decode and check a stored plan. Strings are held to a strict grammar: a plan file is input like any other.

    Raises `PlanFileError`, naming the place in the document.
    """
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PlanFileError(f"{where} is not a plan: {error}") from error
    if document.kind != "copacetic.plan" or document.schema_version != SCHEMA_VERSION:
        kind, version = document.kind, document.schema_version
        message = f"{where} is a {kind} of schema version {version}, not a copacetic.plan of {SCHEMA_VERSION}"
        raise PlanFileError(message)
    try:
        with blame_input(PlanFileError, where):
            return tuple(_read_plan(plan, where) for plan in document.plans)
    except PlanFileError:
        raise
    except CopaError as error:
        raise PlanFileError(f"{where}: {error}") from error


def _read_plan(plan: _Plan, where: str) -> Plan:
    origins = tuple(_read_origin(repository) for repository in plan.repositories)
    odd = next((origin.tag for origin in origins if not _TAG.fullmatch(origin.tag)), None)
    if odd is not None:
        raise PlanFileError(f"{where}: {odd[:80]!r} is not a repository's tag")
    if plan.strategy not in _STRATEGIES:
        raise PlanFileError(f"{where}: {plan.strategy[:80]!r} is not a strategy")
    matched = None if plan.findings is None else tuple(_read_finding(finding, where) for finding in plan.findings)
    known = {(m.finding.vulnerability_id, key): m.finding for m in matched or () for key in m.packages}
    return Plan(
        image=plan.image,
        image_digest=Digest.parse(plan.image_digest),
        platform=Platform.parse(plan.platform),
        distro=plan.distro,
        package_type=plan.package_type,
        strategy=Strategy(plan.strategy),
        updates=tuple(_read_update(update, origins, known, where) for update in plan.updates),
        skipped=tuple(_read_skipped(skipped, known) for skipped in plan.skipped),
        matched=matched,
        origins=origins,
        notes=plan.notes,
        strategy_reason=plan.strategy_reason,
    )


def _read_finding(finding: _Finding, where: str) -> MatchedFinding:
    return MatchedFinding(
        finding=Finding(
            vulnerability_id=finding.vulnerability_id,
            package=finding.package,
            installed_version=finding.installed_version,
            fixed_versions=finding.fixed_versions,
            severity=finding.severity,
            package_type=finding.package_type,
            architecture=finding.architecture,
            names_source=finding.names_source,
            fixed_is_source_version=finding.fixed_is_source_version,
        ),
        status=finding.status,
        packages=tuple(_read_key(text, where) for text in finding.packages),
    )


def _read_key(text: str, where: str) -> PackageKey:
    name, _, architecture = text.rpartition(":")
    if not name or not architecture:
        raise PlanFileError(f"{where}: {text[:80]!r} is not a package with its architecture")
    return PackageKey(name, architecture)


def _read_origin(repository: _Repository) -> Origin:
    return Origin(
        uri=repository.uri,
        suite=repository.suite,
        component=repository.component,
        label=repository.label,
        defined_in=repository.defined_in,
        signed_by=repository.signed_by,
        tag=repository.tag,
        sha256=repository.sha256,
        not_verified=repository.not_verified,
    )


def _read_update(update: _Update, origins: tuple[Origin, ...], known: _Known, where: str) -> PlannedUpdate:
    for text, grammar in (
        (update.name, _NAME),
        (update.architecture, _NAME),
        (update.source_name, _NAME),
        (update.version, _VERSION),
        (update.source_version, _VERSION),
        (update.sha256, _SHA256),
    ):
        if not grammar.fullmatch(text):
            raise PlanFileError(f"{where}: {text[:80]!r} is not valid in the update of {update.name[:80]!r}")
    if not is_plain_address(update.url) or not 0 <= update.repository < len(origins):
        raise PlanFileError(f"{where}: the update of {update.name} has no usable address or repository")
    if not 0 < update.size <= _MAX_SIZE:
        raise PlanFileError(f"{where}: the update of {update.name} has no usable size")
    candidate = Candidate(
        name=update.name,
        version=update.version,
        architecture=update.architecture,
        source_name=update.source_name,
        source_version=update.source_version,
        url=update.url,
        size=update.size,
        sha256=update.sha256,
        origin=origins[update.repository],
    )
    installed = None
    if update.installed_version is not None:
        # The database fills in the rest when the plan is applied.
        installed = _installed(update.name, update.installed_version, update.architecture)
    scripts = tuple(
        ScriptVerdict(package=candidate.key, script=s.script, verdict=s.verdict, reason=s.reason)
        for s in update.scripts
    )
    return PlannedUpdate(
        installed=installed,
        candidate=candidate,
        findings=_known_findings(update, known),
        required_by=update.required_by,
        scripts=scripts,
    )


def _installed(name: str, version: str, architecture: str) -> InstalledPackage:
    return InstalledPackage(
        name=name, version=version, architecture=architecture, source_name=name, source_version=version
    )


def _known_findings(row: _Update | _Skipped, known: _Known) -> tuple[Finding, ...]:
    keys = ((vulnerability_id, PackageKey(row.name, row.architecture)) for vulnerability_id in row.findings)
    return tuple(known[key] for key in keys if key in known)


def _read_skipped(skipped: _Skipped, known: _Known) -> Skipped:
    return Skipped(
        package=_installed(skipped.name, skipped.installed_version, skipped.architecture),
        reason=skipped.reason,
        detail=skipped.detail,
        findings=_known_findings(skipped, known),
    )
