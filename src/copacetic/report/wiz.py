# SPDX-License-Identifier: Apache-2.0
"""
Wiz's scans of images (`wizcli docker scan --format json`).

Names are those of binary packages. Nothing says which distribution it is.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, has, sketch
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder
from copacetic.updates import Report


class _Vulnerability(Shape, frozen=True, rename={"fixed": "fixedVersion"}):
    name: object = None
    severity: object = ""
    fixed: object = ""


class _Package(Shape, frozen=True):
    name: object = None
    version: object = ""
    path: object = None
    vulnerabilities: list[_Vulnerability] | None = None


class _Result(Shape, frozen=True, rename={"packages": "osPackages"}):
    packages: list[_Package] | None = None
    libraries: list[_Package] | None = None


class _Document(Shape, frozen=True, rename={"origin": "scanOriginResource"}):
    origin: object = None
    result: _Result | None = None


def accepts(head: bytes, _name: str) -> bool:
    """What is scanned stands before the result."""
    seen = sketch(head)
    return has(seen, "scanOriginResource") or has(at(seen, "result"), "osPackages")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    result = document.result or _Result()
    builder = FindingBuilder("wiz", name)
    for package_type, packages in ((DISTRIBUTION, result.packages), ("generic", result.libraries)):
        for package in packages or []:
            for vulnerability in package.vulnerabilities or []:
                builder.add(
                    vulnerability=vulnerability.name,
                    package=package.name,
                    package_type=package_type,
                    installed=package.version,
                    fixed=vulnerability.fixed,
                    severity=vulnerability.severity,
                    locations=package.path,
                )
    return [builder.report(image_digests=[at(document.origin, "digest")], image_name=at(document.origin, "name"))]
