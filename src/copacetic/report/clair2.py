# SPDX-License-Identifier: Apache-2.0
"""Reports of Clair 2, as clair-scanner and klar write them. Names are those of source packages."""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, sketch
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, os_type
from copacetic.updates import Report


class _Row(Shape, frozen=True, rename={"package": "featurename", "version": "featureversion", "fixed": "fixedby"}):
    vulnerability: object = None
    package: object = None
    version: object = ""
    fixed: object = ""
    severity: object = ""
    namespace: object = ""


_KLAR = {
    "vulnerability": "Name",
    "package": "FeatureName",
    "version": "FeatureVersion",
    "fixed": "FixedBy",
    "severity": "Severity",
    "namespace": "NamespaceName",
}


class _KlarRow(Shape, frozen=True, rename=_KLAR):
    vulnerability: object = None
    package: object = None
    version: object = ""
    fixed: object = ""
    severity: object = ""
    namespace: object = ""


class _Document(Shape, frozen=True, rename={"by_severity": "Vulnerabilities"}):
    image: object = ""
    vulnerabilities: list[_Row] | None = None
    by_severity: dict[str, list[_KlarRow] | None] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Klar counts layers, clair-scanner lists what nobody has approved."""
    seen = sketch(head)
    return isinstance(seen, dict) and (
        "unapproved" in seen or "LayerCount" in seen or bool(at(seen, "vulnerabilities", 0, "featurename"))
    )


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    builder = FindingBuilder("clair", name)
    rows: list[_Row | _KlarRow] = [*(document.vulnerabilities or [])]
    for listed in (document.by_severity or {}).values():
        rows += listed or []
    for row in rows:
        builder.add(
            vulnerability=row.vulnerability,
            package=row.package,
            package_type=os_type(row.namespace) or DISTRIBUTION,
            installed=row.version,
            fixed=row.fixed,
            severity=row.severity,
            names_source=True,
        )
    family, _, version = str(rows[0].namespace if rows else "").partition(":")
    return [builder.report(image_name=document.image, os_family=family, os_version=version)]
