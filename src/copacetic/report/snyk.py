# SPDX-License-Identifier: Apache-2.0
"""
Snyk's JSON reports of containers: one project, or a list of them, with the image's applications inside.

A row stands once for each way in which a package came in. A package is `source/binary`, or one name for both.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, has, is_list, sketch, texts
from copacetic.report.grammar import FindingBuilder, find_type, is_os, os_type
from copacetic.updates import Report

_NAMES = {"fixed": "fixedIn", "nearest": "nearestFixedInVersion", "package_manager": "packageManager"}


class _Row(Shape, frozen=True, rename=_NAMES):
    id: object = None
    name: object = None
    version: object = ""
    fixed: object = None
    nearest: object = None
    severity: object = ""
    identifiers: object = None
    package_manager: object = ""


class _Project(Shape, frozen=True, rename={"package_manager": "packageManager"}):
    vulnerabilities: list[_Row] | None = None
    applications: list[_Project] | None = None
    package_manager: object = ""
    path: object = ""
    platform: object = ""
    docker: object = None


def accepts(head: bytes, _name: str) -> bool:
    """A project has a package manager, as has each of its rows."""
    seen = sketch(head)
    project = at(seen, 0) if isinstance(seen, list) else seen
    rows = at(project, "vulnerabilities")
    return isinstance(rows, list) and (has(project, "packageManager") or has(at(rows, 0), "packageManager"))


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    what = f"the report {name}"
    projects = decode(data, list[_Project], what) if is_list(data) else [decode(data, _Project, what)]
    builder = FindingBuilder("snyk", name)
    for project in projects:
        for part in (project, *(project.applications or [])):
            for row in part.vulnerabilities or []:
                _add(builder, row, os_type(row.package_manager) or find_type(part.package_manager))
    first = projects[0] if projects else _Project()
    return [
        builder.report(
            image_digests=[at(first.docker, "imageId")],
            image_name=first.path,
            architecture=first.platform.partition("/")[2] if isinstance(first.platform, str) else "",
        )
    ]


def _add(builder: FindingBuilder, row: _Row, package_type: str) -> None:
    """Rows are named by their CVE where they have one."""
    cves = texts(at(row.identifiers, "CVE"))
    name = row.name
    builder.add(
        vulnerability=cves[0] if cves else row.id,
        package=name.rpartition("/")[2] if isinstance(name, str) and is_os(package_type) else name,
        package_type=package_type,
        installed=row.version,
        fixed=row.nearest or row.fixed,
        severity=row.severity,
        aliases=[*cves[1:], row.id],
    )
