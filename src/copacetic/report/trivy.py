# SPDX-License-Identifier: Apache-2.0
"""
Trivy's JSON reports: schema version 2, and the bare list of results that versions up to 0.19 wrote (called 1 here).

Names are those of binary packages. For Debian and its derivatives the fixed version is the source package's, since
that is what their security trackers say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from copacetic.errors import CopaError, ReportError
from copacetic.families import type_of_report
from copacetic.oci import Digest
from copacetic.strict import split_address
from copacetic.updates import Finding, Report

_NO_FIX = frozenset({"", "none", "not fixed", "notavailable", "n/a", "--"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~^-]{0,254}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")
_SEVERITIES = frozenset({"UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"})
_MAX_FINDINGS = 1_000_000


def detect(document: Any) -> bool:
    """Tell whether a document is Trivy's."""
    if isinstance(document, list):
        return bool(document) and all(isinstance(row, dict) and "Target" in row for row in document)
    return isinstance(document, dict) and "SchemaVersion" in document and "Matches" not in document


def parse(document: Any, path: str, package_types: frozenset[str]) -> Report:
    """Read the findings of the wanted types. Raises `ReportError`."""
    results: Any = document
    metadata: Any = {}
    name = ""
    if not isinstance(document, list):
        version = document["SchemaVersion"]
        if version not in (1, 2):  # a list can be compared with, and can't be in a set
            raise ReportError(f"the report {path} has Trivy's schema version {str(version)[:20]}, not 1 or 2")
        results, metadata = document.get("Results") or [], document.get("Metadata") or {}
        name = str(document.get("ArtifactName") or "")[:512]
    if not isinstance(results, list) or not isinstance(metadata, dict):
        raise ReportError(f"the report {path} has no usable Results and Metadata")
    ignored: Counter[str] = Counter()
    findings = tuple(dict.fromkeys(_findings(results, path, package_types, ignored)))
    system = metadata.get("OS")
    config = metadata.get("ImageConfig")
    return Report(
        scanner="trivy",
        path=path,
        findings=findings,
        image_digests=frozenset(_digests(metadata)),
        image_name=name,
        os_family=_word(system, "Family"),
        os_version=_word(system, "Name"),
        architecture=_word(config, "architecture"),
        ignored=dict(ignored),
    )


def _word(value: object, key: str) -> str:
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) and _NAME.fullmatch(text) else ""


def _digests(metadata: dict[str, Any]) -> Iterator[Digest]:
    repo_digests = metadata.get("RepoDigests")
    names = [str(name).rpartition("@")[2] for name in repo_digests] if isinstance(repo_digests, list) else []
    for text in (metadata.get("ImageID"), *names):
        try:
            yield Digest.parse(str(text))
        except CopaError:
            continue


def _findings(results: list[Any], path: str, package_types: frozenset[str], ignored: Counter[str]) -> Iterator[Finding]:
    count = 0
    for position, result in enumerate(results):
        if not isinstance(result, dict):
            raise ReportError(f"the report {path} has no object in `Results[{position}]`")
        rows = result.get("Vulnerabilities") or []
        if not isinstance(rows, list):
            raise ReportError(f"the report {path} has no list in `Results[{position}].Vulnerabilities`")
        family = str(result.get("Type") or "").lower()
        package_type = type_of_report(family)
        if result.get("Class", "os-pkgs") != "os-pkgs" or not package_type or "os" not in package_types:
            if rows:
                ignored["other package types"] += len(rows)
            continue
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise ReportError(f"the report {path} has no object in `Results[{position}].Vulnerabilities[{number}]`")
            count += 1
            if count > _MAX_FINDINGS:
                raise ReportError(f"the report {path} has more than {_MAX_FINDINGS} findings")
            finding = _finding(row, package_type, ignored)
            if finding is not None:
                yield finding


def _finding(row: dict[str, Any], package_type: str, ignored: Counter[str]) -> Finding | None:
    identity, package = row.get("VulnerabilityID"), row.get("PkgName")
    installed, fixed = row.get("InstalledVersion") or "", row.get("FixedVersion") or ""
    if not isinstance(package, str) or not _NAME.fullmatch(package):
        ignored["invalid package names"] += 1
        return None
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        ignored["invalid vulnerability ids"] += 1
        return None
    if not isinstance(installed, str) or not isinstance(fixed, str):
        ignored["invalid versions"] += 1
        return None
    versions = tuple(v for v in (part.strip(" []") for part in fixed.split(",")) if v.lower() not in _NO_FIX)
    if not all(_VERSION.fullmatch(v) for v in (*versions, *filter(None, [installed]))):
        ignored["invalid versions"] += 1
        return None
    severity = row.get("Severity")
    return Finding(
        vulnerability_id=identity,
        package=package,
        installed_version=installed,
        fixed_versions=versions,
        severity=severity if isinstance(severity, str) and severity in _SEVERITIES else "UNKNOWN",
        package_type=package_type,
        architecture=_architecture(row),
        fixed_is_source_version=package_type == "deb",
    )


def _architecture(row: dict[str, Any]) -> str | None:
    """The binary's architecture is only in its purl."""
    identifier = row.get("PkgIdentifier")
    purl = identifier.get("PURL") if isinstance(identifier, dict) else None
    if not isinstance(purl, str) or len(purl) > 2_000:
        return None
    parts = split_address(purl)
    values = parse_qs(parts.query).get("arch", []) if parts is not None else []
    return values[0] if len(values) == 1 and _NAME.fullmatch(values[0]) else None
