# SPDX-License-Identifier: Apache-2.0
"""
VulnerabilityReports of the Trivy Operator, as `kubectl get -o json` prints them: one, or a list.

Each is about one image. Names and versions are Trivy's; older ones leave out what kind of package it is.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, sketch
from copacetic.report.grammar import DISTRIBUTION, NAME, FindingBuilder, find_type, os_type
from copacetic.updates import Report

_NAMES = {
    "vulnerability_id": "vulnerabilityID",
    "installed": "installedVersion",
    "fixed": "fixedVersion",
    "kind": "class",
    "package_type": "packageType",
    "purl": "packagePURL",
    "path": "packagePath",
}


class _Row(Shape, frozen=True, rename=_NAMES):
    vulnerability_id: object = None
    resource: object = None
    installed: object = ""
    fixed: object = ""
    severity: object = ""
    kind: object = ""
    package_type: object = ""
    purl: object = ""
    path: object = None


class _Report(Shape, frozen=True):
    artifact: object = None
    registry: object = None
    os: object = None
    vulnerabilities: list[_Row] | None = None


class _Resource(Shape, frozen=True):
    report: _Report | None = None


class _Document(_Resource, frozen=True):
    items: list[_Resource] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """A list says nothing, what is in it does."""
    seen = sketch(head)
    return at(at(seen, "items", 0) or seen, "kind") in ("VulnerabilityReport", "ClusterVulnerabilityReport")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    resources: list[_Resource] = [document] if document.items is None else document.items
    return [_read(resource.report, name) for resource in resources if resource.report is not None]


def _read(report: _Report, name: str) -> Report:
    builder = FindingBuilder("trivy-operator", name)
    system = os_type(at(report.os, "family")) or DISTRIBUTION
    for row in report.vulnerabilities or []:
        builder.add(
            vulnerability=row.vulnerability_id,
            package=row.resource,
            package_type=system if _is_systems(row) else find_type(row.package_type),
            installed=row.installed,
            fixed=row.fixed,
            severity=row.severity,
            purl=row.purl,
            locations=row.path,
        )
    places = (at(report.registry, "server"), at(report.artifact, "repository"))
    return builder.report(
        image_digests=[at(report.artifact, "digest")],
        image_name="/".join(place for place in places if isinstance(place, str)),
        os_family=at(report.os, "family"),
        os_version=at(report.os, "name"),
    )


def _is_systems(row: _Row) -> bool:
    """No package of a distribution has a name with slashes or colons."""
    return row.kind == "os-pkgs" or (not row.kind and NAME.fullmatch(str(row.resource)) is not None)
