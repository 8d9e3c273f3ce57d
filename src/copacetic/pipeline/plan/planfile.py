# SPDX-License-Identifier: Apache-2.0
"""
Plans from files: what `copa patch --plan` applies, read strictly; `vouch` looks who answers for the packages.

Unknown fields are ignored, so that a plan of a later minor version can be read; another `schemaVersion` is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from copacetic.documents import SCHEMA_VERSION
from copacetic.errors import CopaError, PlanFileError, blame_input
from copacetic.oci import Digest, Platform
from copacetic.report.grammar import NAME, VERSION, find_fault
from copacetic.repository.address import is_plain_address
from copacetic.updates import (
    Candidate,
    Finding,
    FindingStatus,
    Fix,
    InstalledPackage,
    MatchedFinding,
    Origin,
    PackageKey,
    Plan,
    PlannedUpdate,
    ScriptClass,
    ScriptVerdict,
    Section,
    Skipped,
    SkipReason,
    Strategy,
)

__all__ = ["PLAN_LIMIT", "read_plans"]

PLAN_LIMIT = 64 * 1024 * 1024

_TAG = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+-]{0,63})?")
_STRATEGIES = frozenset({"unpack", "exec"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SIZE = 16 * 1024**3

_Known: TypeAlias = Mapping[tuple[str, PackageKey], Finding]
"""The findings about a section by vulnerability and by a package they concern."""


class _Camel(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The documents' spelling of names."""


class _Fix(_Camel, frozen=True):
    version: str
    is_source: bool


class _Finding(_Camel, frozen=True):
    vulnerability_id: str
    package: str
    installed_version: str
    fixes: tuple[_Fix, ...] | None
    severity: str
    package_type: str
    status: FindingStatus
    packages: tuple[str, ...] = ()
    architecture: str | None = None
    names_source: bool = False
    aliases: tuple[str, ...] = ()
    purl: str = ""
    locations: tuple[str, ...] = ()


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


class _Section(_Camel, frozen=True):
    package_type: str
    updates: tuple[_Update, ...]
    skipped: tuple[_Skipped, ...] = ()
    repositories: tuple[_Repository, ...] = ()
    notes: tuple[str, ...] = ()


class _Plan(_Camel, frozen=True):
    image: str
    image_digest: str
    platform: str
    distro: str
    strategy: str
    sections: tuple[_Section, ...]
    findings: tuple[_Finding, ...] | None = None
    notes: tuple[str, ...] = ()
    strategy_reason: str = ""


class _Document(_Camel, frozen=True):
    schema_version: int
    kind: str
    plans: tuple[_Plan, ...]


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
    if plan.strategy not in _STRATEGIES:
        raise PlanFileError(f"{where}: {plan.strategy[:80]!r} is not a strategy")
    types = [section.package_type for section in plan.sections]
    if len(set(types)) < len(types):
        raise PlanFileError(f"{where}: {max(types, key=types.count)[:80]!r} has two sections in one plan")
    matched = None if plan.findings is None else tuple(_read_finding(finding, where) for finding in plan.findings)
    return Plan(
        image=plan.image,
        image_digest=Digest.parse(plan.image_digest),
        platform=Platform.parse(plan.platform),
        distro=plan.distro,
        strategy=Strategy(plan.strategy),
        sections=tuple(_read_section(section, matched or (), where) for section in plan.sections),
        matched=matched,
        image_notes=plan.notes,
        strategy_reason=plan.strategy_reason,
    )


def _read_section(section: _Section, matched: Sequence[MatchedFinding], where: str) -> Section:
    if not NAME.fullmatch(section.package_type):
        raise PlanFileError(f"{where}: {section.package_type[:80]!r} is not a type of package")
    origins = tuple(_read_origin(repository) for repository in section.repositories)
    odd = next((origin.tag for origin in origins if not _TAG.fullmatch(origin.tag)), None)
    if odd is not None:
        raise PlanFileError(f"{where}: {odd[:80]!r} is not a repository's tag")
    about = (one for one in matched if one.finding.package_type == section.package_type)
    known = {(one.finding.vulnerability_id, key): one.finding for one in about for key in one.packages}
    return Section(
        package_type=section.package_type,
        updates=tuple(_read_update(update, origins, known, where) for update in section.updates),
        skipped=tuple(_read_skipped(skipped, known) for skipped in section.skipped),
        origins=origins,
        notes=section.notes,
    )


def _read_finding(row: _Finding, where: str) -> MatchedFinding:
    fixes = row.fixes
    finding = Finding(
        vulnerability_id=row.vulnerability_id,
        package=row.package,
        installed_version=row.installed_version,
        fixes=None if fixes is None else tuple(Fix(version=fix.version, is_source=fix.is_source) for fix in fixes),
        severity=row.severity,
        package_type=row.package_type,
        architecture=row.architecture,
        names_source=row.names_source,
        aliases=row.aliases,
        purl=row.purl,
        locations=row.locations,
    )
    fault = find_fault(finding)
    if fault:
        raise PlanFileError(f"{where}: a finding about {row.package[:80]!r} has {fault}")
    keys = tuple(_read_key(text, where) for text in row.packages)
    return MatchedFinding(finding=finding, status=row.status, packages=keys)


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
        (update.name, NAME),
        (update.architecture, NAME),
        (update.source_name, NAME),
        (update.version, VERSION),
        (update.source_version, VERSION),
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
