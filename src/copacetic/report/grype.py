# SPDX-License-Identifier: Apache-2.0
"""
Grype's JSON reports.

Names are those of binary packages; fixed versions of Debian's are the source package's. Some have one for each branch.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, has, sketch, texts
from copacetic.report.grammar import FindingBuilder, find_type
from copacetic.updates import Report


class _Fix(Shape, frozen=True):
    versions: object = ()


class _Related(Shape, frozen=True):
    id: object = None


class _Vulnerability(Shape, frozen=True):
    id: object = None
    severity: object = ""
    fix: _Fix | None = None


class _Location(Shape, frozen=True):
    path: object = None


class _Artifact(Shape, frozen=True):
    name: object = None
    version: object = ""
    type: object = None
    purl: object = ""
    locations: list[_Location] | None = None


class _Match(Shape, frozen=True, rename={"related": "relatedVulnerabilities"}):
    vulnerability: _Vulnerability = _Vulnerability()
    related: list[_Related] | None = None
    artifact: _Artifact = _Artifact()


class _Document(Shape, frozen=True):
    matches: list[_Match] | None = None
    distro: object = None
    source: object = None


def accepts(head: bytes, _name: str) -> bool:
    """What is left of one after somebody's filter may not say that it is Grype's."""
    seen = sketch(head)
    first = at(seen, "matches", 0)
    return at(seen, "descriptor", "name") == "grype" or has(first, "artifact", "vulnerability")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    builder = FindingBuilder("grype", name)
    for match in document.matches or []:
        artifact, vulnerability = match.artifact, match.vulnerability
        builder.add(
            vulnerability=vulnerability.id,
            package=artifact.name,
            package_type=find_type(artifact.type),
            installed=artifact.version,
            fixed=vulnerability.fix.versions if vulnerability.fix else (),
            severity=vulnerability.severity,
            purl=artifact.purl,
            aliases=[related.id for related in match.related or []],
            locations=[location.path for location in artifact.locations or []],
        )
    target = at(document.source, "target")
    return [
        builder.report(
            image_digests=[at(target, "manifestDigest"), at(target, "imageID"), *texts(at(target, "repoDigests"))],
            image_name=at(target, "userInput"),
            os_family=at(document.distro, "name"),
            os_version=at(document.distro, "version"),
            architecture=at(target, "architecture"),
        )
    ]
