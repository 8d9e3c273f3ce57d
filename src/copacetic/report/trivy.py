# SPDX-License-Identifier: Apache-2.0
"""
Trivy's JSON reports: schema version 2, and the bare list of results that versions up to 0.19 wrote (called 1 here).

Names are those of binary packages. For Debian and its derivatives the fixed version is the source package's, since
that is what their security trackers say.
"""

from __future__ import annotations

from copacetic.errors import ReportError
from copacetic.report.document import Shape, at, decode, is_list, sketch, texts
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, find_type, os_type
from copacetic.updates import Report

_KEYS = frozenset({"SchemaVersion", "ArtifactName", "Results"})
_OF_DISTRIBUTION = ("os-pkgs", "")
"""The old lists have no class."""


class _Row(Shape, frozen=True):
    VulnerabilityID: object = None
    PkgName: object = None
    InstalledVersion: object = ""
    FixedVersion: object = ""
    Severity: object = ""
    PkgIdentifier: object = None
    PkgPath: object = None
    VendorIDs: object = None


class _Result(Shape, frozen=True):
    Target: object = ""
    Class: object = ""
    Type: object = ""
    Vulnerabilities: list[_Row] | None = None


class _Document(Shape, frozen=True):
    SchemaVersion: object = 2
    ArtifactName: object = ""
    Metadata: object = None
    Results: list[_Result] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Versions up to 0.19 wrote a list of results."""
    seen = sketch(head)
    if isinstance(seen, list):
        return bool(seen) and all(isinstance(row, dict) and "Target" in row for row in seen)
    return isinstance(seen, dict) and not _KEYS.isdisjoint(seen) and "Findings" not in seen


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    what = f"the report {name}"
    if is_list(data):
        document = _Document(SchemaVersion=1, Results=decode(data, list[_Result], what))
    else:
        document = decode(data, _Document, what)
    if document.SchemaVersion not in (1, 2):  # a list can be compared with, and can't be in a set
        version = str(document.SchemaVersion)[:20]
        raise ReportError(f"{what} has Trivy's schema version {version}, not 1 or 2")
    builder = FindingBuilder("trivy", name)
    for result in document.Results or []:
        _add(builder, result)
    metadata = document.Metadata
    return [
        builder.report(
            image_digests=[at(metadata, "ImageID"), *texts(at(metadata, "RepoDigests"))],
            image_name=document.ArtifactName,
            os_family=at(metadata, "OS", "Family"),
            os_version=at(metadata, "OS", "Name"),
            architecture=at(metadata, "ImageConfig", "architecture"),
        )
    ]


def _add(builder: FindingBuilder, result: _Result) -> None:
    package_type = os_type(result.Type) if result.Class in _OF_DISTRIBUTION else ""
    if not package_type:
        package_type = DISTRIBUTION if result.Class == "os-pkgs" else find_type(result.Type)
    for row in result.Vulnerabilities or []:
        builder.add(
            vulnerability=row.VulnerabilityID,
            package=row.PkgName,
            package_type=package_type,
            installed=row.InstalledVersion,
            fixed=row.FixedVersion,
            severity=row.Severity,
            purl=at(row.PkgIdentifier, "PURL"),
            aliases=row.VendorIDs,
            locations=row.PkgPath,
        )
