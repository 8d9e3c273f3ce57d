# SPDX-License-Identifier: Apache-2.0
"""
CycloneDX documents with vulnerabilities, version 1.4 and later.

There is no field for a fix. Trivy and Snyk write one as a recommendation, and none where there is no fix; of what
others write nobody knows what fixes it, so their rows are an inventory of what is vulnerable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from copacetic.report.document import Shape, at, decode, sketch
from copacetic.report.grammar import FindingBuilder, find_type
from copacetic.report.purl import read_purl
from copacetic.updates import Report


class _Component(Shape, frozen=True, rename={"ref": "bom-ref"}):
    ref: object = None
    type: object = None
    name: object = None
    version: object = ""
    purl: object = ""
    components: list[_Component] | None = None


class _Affected(Shape, frozen=True):
    ref: object = None


class _Rating(Shape, frozen=True):
    severity: object = None


class _Vulnerability(Shape, frozen=True):
    id: object = None
    ratings: list[_Rating] | None = None
    recommendation: object = None
    analysis: object = None
    affects: list[_Affected] | None = None


class _Document(Shape, frozen=True):
    metadata: object = None
    components: list[_Component] | None = None
    vulnerabilities: list[_Vulnerability] | None = None


_HARMLESS = ("false_positive", "not_affected", "resolved", "resolved_with_pedigree")
_ADVICE = re.compile(r"Upgrade (\S{1,255}) to version ([^;]{1,500})")
_ADVISERS = frozenset({"trivy"})
"""Those who write an advice wherever there is a fix."""


def accepts(head: bytes, _name: str) -> bool:
    """A document without vulnerabilities has no findings."""
    return bool(at(sketch(head), "bomFormat") == "CycloneDX")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    builder = FindingBuilder("cyclonedx", name, complete=not _ADVISERS.isdisjoint(_tools(document.metadata)))
    components = {str(component.ref): component for component in _flat(document.components)}
    for vulnerability in document.vulnerabilities or []:
        if at(vulnerability.analysis, "state") in _HARMLESS:
            builder.refuse("an analysis that calls them harmless")
            continue
        text = vulnerability.recommendation
        advice = dict(_ADVICE.findall(text)) if isinstance(text, str) else {}
        severity = next((rating.severity for rating in vulnerability.ratings or [] if rating.severity), "")
        for affected in vulnerability.affects or []:
            ref = affected.ref if isinstance(affected.ref, str) else ""
            component = components.get(ref) or _Component(purl=ref.rpartition("#")[2])
            purl = builder.read_purl(component.purl)
            package = purl.package if purl else component.name
            builder.add(
                vulnerability=vulnerability.id,
                package=package,
                package_type=find_type(purl.type if purl else None),
                installed=(purl.full_version if purl else "") or component.version,
                fixed=advice.get(str(package), "").removesuffix(" or higher."),
                severity=severity,
                purl=component.purl,
            )
    subject = at(document.metadata, "component")
    purl = read_purl(at(subject, "purl"))
    system = next((one for one in components.values() if one.type == "operating-system"), _Component())
    return [
        builder.report(
            image_digests=[purl.version if purl else at(subject, "version")],
            image_name=at(subject, "name"),
            os_family=system.name,
            os_version=system.version,
            architecture=purl.architecture if purl else "",
        )
    ]


def _tools(metadata: object) -> list[str]:
    """A list of tools, since 1.5 one of components."""
    tools = at(metadata, "tools")
    listed = at(tools, "components") or tools
    return [str(at(tool, "name")) for tool in listed] if isinstance(listed, list) else []


def _flat(components: list[_Component] | None) -> Iterator[_Component]:
    waiting = list(components or [])
    while waiting:
        component = waiting.pop()
        yield component
        waiting += component.components or []
