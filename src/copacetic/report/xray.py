# SPDX-License-Identifier: Apache-2.0
"""
JFrog Xray's scans of images (`jf docker scan --format json`), and vulnerability reports as it exports them.

A component is one text of type, distribution, name and version; names are those of binary packages, or of Debian's
sources.
"""

from __future__ import annotations

import re

from copacetic.report.document import Shape, at, decode, is_list, sketch, texts
from copacetic.report.grammar import MAX_ALIASES, FindingBuilder, find_type, is_os, os_type
from copacetic.updates import Report

_RELEASE = re.compile(r"v?\d[\w.]*|(?:el|fc|amzn)\d+|[a-z]+")
"""Of a distribution: 3.18, el8, bookworm."""


class _Component(Shape, frozen=True, rename={"fixed": "fixed_versions"}):
    fixed: object = None


class _Vulnerability(Shape, frozen=True):
    cves: object = None
    issue_id: object = None
    severity: object = ""
    components: dict[str, _Component] | None = None


class _Row(_Vulnerability, frozen=True, rename={"component": "vulnerable_component", "fixed": "fixed_versions"}):
    component: object = ""
    fixed: object = None


class _Scan(Shape, frozen=True, rename={"name": "component_id"}):
    name: object = ""
    vulnerabilities: list[_Vulnerability] | None = None
    rows: list[_Row] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """A list of scans, or an export's rows."""
    seen = sketch(head)
    return at(seen, 0, "scan_id") is not None or at(seen, "rows", 0, "vulnerable_component") is not None


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    what = f"the report {name}"
    scans = decode(data, list[_Scan], what) if is_list(data) else [decode(data, _Scan, what)]
    builder = FindingBuilder("xray", name)
    for scan in scans:
        for vulnerability in scan.vulnerabilities or []:
            identities = _identities(vulnerability)
            for component, details in (vulnerability.components or {}).items():
                _add(builder, identities, vulnerability.severity, component, details.fixed)
        for row in scan.rows or []:
            _add(builder, _identities(row), row.severity, row.component, row.fixed)
    return [builder.report(image_name=str(scans[0].name).rpartition("//")[2] if scans else "")]


def _identities(vulnerability: _Vulnerability) -> list[object]:
    """CVEs first."""
    cves = vulnerability.cves[:MAX_ALIASES] if isinstance(vulnerability.cves, list) else []
    return [*filter(None, (at(one, "cve") for one in cves)), vulnerability.issue_id]


def _add(builder: FindingBuilder, identities: list[object], severity: object, component: object, fixed: object) -> None:
    package_type, package, version = _split(str(component)[:1_000])
    builder.add(
        vulnerability=identities[0],
        package=package,
        package_type=package_type,
        installed=version,
        fixed=texts(fixed),
        severity=severity,
        aliases=identities[1:],
        names_source=package_type == "deb",
    )


def _split(component: str) -> tuple[str, str, str]:
    """`deb://debian:bookworm:libx11:2:1.6.4-3`, `alpine://3.18:musl:1.2.4-r0`, `gav://group:name:1`."""
    scheme, _, rest = component.partition("://")
    package_type = find_type(scheme)
    parts = rest.split(":", 10)
    if not is_os(package_type):
        return package_type, ":".join(parts[:-1]) or rest, parts[-1] if len(parts) > 1 else ""
    if os_type(parts[0]) and len(parts) > 2:
        parts = parts[1:]
    if len(parts) > 2 and _RELEASE.fullmatch(parts[0]) and not parts[1].isdecimal():
        parts = parts[1:]
    return package_type, parts[0], ":".join(parts[1:])
