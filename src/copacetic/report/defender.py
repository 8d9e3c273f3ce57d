# SPDX-License-Identifier: Apache-2.0
"""
Microsoft Defender's container assessments, as Azure Resource Graph returns them: Azure's, and those of images in AWS
and Google Cloud. One answer may be about many images. Names are those of binary packages.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, is_list, sketch
from copacetic.report.grammar import DISTRIBUTION, find_type, os_type
from copacetic.report.images import ImageFindings
from copacetic.updates import Report


class _Data(Shape, frozen=True, rename="camel"):
    vulnerability_details: object = None
    artifact_details: object = None
    software_details: object = None


class _Properties(Shape, frozen=True, rename="camel"):
    id: object = None
    additional_data: _Data = _Data()


class _Row(Shape, frozen=True):
    properties: _Properties = _Properties()


class _Document(Shape, frozen=True):
    data: list[_Row] | None = None
    value: list[_Row] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """A list (`az graph query` keeps it in `data`, the REST API in `value`) of sub-assessments."""
    seen = sketch(head)
    rows = seen if isinstance(seen, list) else at(seen, "data") or at(seen, "value")
    kind = at(rows, 0, "properties", "additionalData", "assessedResourceType")
    return isinstance(kind, str) and kind.endswith("Vulnerability")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    what = f"the report {name}"
    document = decode(data, _Document, what) if not is_list(data) else None
    rows = (document.data or document.value or []) if document else decode(data, list[_Row], what)
    images = ImageFindings("azure-defender", name)
    for row in rows:
        details = row.properties.additional_data
        artifact, software = details.artifact_details, details.software_details
        builder = images.about(at(artifact, "digest"), image_name=at(artifact, "repositoryName"))
        if builder is None:
            continue
        system = os_type(at(software, "osDetails", "osVersion")) or DISTRIBUTION
        builder.add(
            vulnerability=at(details.vulnerability_details, "cveId") or row.properties.id,
            package=at(software, "packageName"),
            package_type=system if at(software, "category") == "OS" else find_type(at(software, "language")),
            installed=at(software, "version"),
            fixed=at(software, "fixedVersion"),
            severity=at(details.vulnerability_details, "severity"),
        )
    return images.reports()
