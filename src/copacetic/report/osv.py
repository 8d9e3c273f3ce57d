# SPDX-License-Identifier: Apache-2.0
"""
OSV-Scanner's JSON reports.

A vulnerability lists every release and branch that it was fixed in; those of the package's own ecosystem count. The
name of a distribution's package is its source's, unless the binary's stands beside it.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, sketch, texts
from copacetic.report.grammar import FindingBuilder, find_type, is_os
from copacetic.updates import Report


class _Package(Shape, frozen=True, rename={"binary": "os_package_name"}):
    name: object = None
    binary: object = None
    version: object = ""
    ecosystem: object = None


class _Range(Shape, frozen=True):
    type: object = None
    events: object = None


class _Affected(Shape, frozen=True):
    package: _Package | None = None
    ranges: list[_Range] | None = None


class _Vulnerability(Shape, frozen=True, rename={"about": "database_specific"}):
    id: object = None
    aliases: object = None
    upstream: object = None
    about: object = None
    affected: list[_Affected] | None = None


class _Group(Shape, frozen=True, rename={"severity": "max_severity"}):
    ids: object = None
    aliases: object = None
    severity: object = ""


class _Row(Shape, frozen=True):
    package: _Package = _Package()
    vulnerabilities: list[_Vulnerability] | None = None
    groups: list[_Group] | None = None


class _Result(Shape, frozen=True):
    source: object = None
    packages: list[_Row] | None = None


class _Document(Shape, frozen=True):
    results: list[_Result] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Without findings there is nothing but an empty list, and the scanner's own settings."""
    seen = sketch(head)
    return isinstance(at(seen, "results", 0, "packages", 0, "package"), dict) or (
        isinstance(seen, dict) and "results" in seen and "experimental_config" in seen
    )


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    builder = FindingBuilder("osv-scanner", name)
    for result in decode(data, _Document, f"the report {name}").results or []:
        path = at(result.source, "path")
        for row in result.packages or []:
            groups = {identity: group for group in row.groups or [] for identity in texts(group.ids)}
            for vulnerability in row.vulnerabilities or []:
                group = groups.get(vulnerability.id) if isinstance(vulnerability.id, str) else None
                _add(builder, row.package, vulnerability, group or _Group(), path)
    return [builder.report()]


def _add(
    builder: FindingBuilder, package: _Package, vulnerability: _Vulnerability, group: _Group, path: object
) -> None:
    package_type = find_type(package.ecosystem)
    aliases = (*texts(vulnerability.aliases), *texts(vulnerability.upstream), *texts(group.aliases))
    builder.add(
        vulnerability=vulnerability.id,
        package=package.binary or package.name,
        package_type=package_type,
        installed=package.version,
        fixed=_fixed(package, vulnerability),
        severity=at(vulnerability.about, "severity") or group.severity,
        aliases=aliases,
        locations=path,
        names_source=is_os(package_type) and not package.binary,
    )


def _fixed(package: _Package, vulnerability: _Vulnerability) -> list[object]:
    """A range in commits says nothing about versions."""
    events = [
        event
        for affected in vulnerability.affected or []
        if affected.package and (affected.package.name, affected.package.ecosystem) == (package.name, package.ecosystem)
        for one in affected.ranges or []
        if one.type != "GIT" and isinstance(one.events, list)
        for event in one.events
    ]
    return [fixed for fixed in (at(event, "fixed") for event in events) if fixed]
