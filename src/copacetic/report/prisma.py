# SPDX-License-Identifier: Apache-2.0
"""
Prisma Cloud's results, as twistcli writes them, one for each image.

Names are those of source packages, mostly with the binary ones in words behind them. Unless a row or the list of
packages says otherwise, a package is the distribution's.
"""

from __future__ import annotations

import re

from copacetic.report.document import Shape, at, decode, has, sketch
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, find_type, is_os, os_type
from copacetic.updates import Report

_USED = re.compile(r"(\S{1,255}) \(used in ")
_FIXED = re.compile(r"fixed in (.{1,500})")


class _Row(Shape, frozen=True, rename="camel"):
    id: object = None
    status: object = ""
    severity: object = ""
    package_name: object = None
    package_version: object = ""
    package_type: object = None
    package_path: object = None


class _Package(Shape, frozen=True):
    type: object = None
    name: object = None
    version: object = None


class _Result(Shape, frozen=True):
    id: object = None
    digest: object = None
    name: object = ""
    distro: object = ""
    vulnerabilities: list[_Row] | None = None
    packages: list[_Package] | None = None


class _Document(Shape, frozen=True):
    results: list[_Result] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Others have results too, and none has the image's distribution in them."""
    first = at(sketch(head), "results", 0)
    return has(first, "distro") or has(first, "vulnerabilityDistribution")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    return [_read(result, name) for result in decode(data, _Document, f"the report {name}").results or []]


def _read(result: _Result, name: str) -> Report:
    builder = FindingBuilder("prisma", name)
    types = {(str(package.name), str(package.version)): package.type for package in result.packages or []}
    system = os_type(result.distro) or DISTRIBUTION
    for row in result.vulnerabilities or []:
        named = _USED.match(row.package_name) if isinstance(row.package_name, str) else None
        kind = row.package_type or types.get((str(row.package_name), str(row.package_version))) or "os"
        package_type = system if kind == "os" else find_type(kind)
        fixed = _FIXED.fullmatch(row.status) if isinstance(row.status, str) else None
        builder.add(
            vulnerability=row.id,
            package=named[1] if named else row.package_name,
            package_type=package_type,
            installed=row.package_version,
            fixed=fixed and fixed[1],
            severity=row.severity,
            locations=row.package_path,
            names_source=is_os(package_type),
        )
    return builder.report(image_digests=[result.digest, result.id], image_name=result.name)
