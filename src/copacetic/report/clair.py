# SPDX-License-Identifier: Apache-2.0
"""
Clair 4's vulnerability reports.

Advisories are named in whole sentences, and have a package that they are about; which package is installed stands in
a table of its own, and which advisories it has in another.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from copacetic.report.document import Shape, at, decode, sketch
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, find_type, os_type
from copacetic.updates import Report

_CVE = re.compile(r"\bCVE-\d{4}-\d{4,9}\b")
_NAMED = re.compile(r"([A-Z][A-Za-z]*-[\w:.-]{1,100}?):?(?: |$)")
_FIXED = re.compile(r"(?:^|&)fixed=([^&]{1,300})")
_MAX_LINKS = 2_000
_LIBRARIES = frozenset({"go", "java", "maven", "nodejs", "python", "ruby"})


class _Package(Shape, frozen=True):
    name: object = None
    version: object = ""
    arch: object = None


class _Distribution(Shape, frozen=True, rename={"version": "version_id"}):
    did: object = ""
    version: object = ""


class _Vulnerability(Shape, frozen=True, rename={"severity": "normalized_severity", "fixed": "fixed_in_version"}):
    name: object = None
    links: object = ""
    severity: object = ""
    fixed: object = ""
    distribution: _Distribution | None = None


class _Environment(Shape, frozen=True, rename={"database": "package_db"}):
    database: object = ""


class _Report(Shape, frozen=True, rename={"digest": "manifest_hash", "found": "package_vulnerabilities"}):
    digest: object = ""
    packages: dict[str, _Package] | None = None
    distributions: dict[str, _Distribution] | None = None
    environments: dict[str, list[_Environment] | None] | None = None
    vulnerabilities: dict[str, _Vulnerability] | None = None
    found: dict[str, list[str | int] | None] | None = None


class _Document(_Report, frozen=True, rename={"digest": "manifest_hash", "found": "package_vulnerabilities"}):
    report: _Report | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Some keep it wrapped."""
    seen = sketch(head)
    return isinstance(at(at(seen, "report") or seen, "manifest_hash"), str)


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    report = document.report or document
    builder = FindingBuilder("clair", name)
    packages, vulnerabilities = report.packages or {}, report.vulnerabilities or {}
    distribution = next(iter((report.distributions or {}).values()), _Distribution())
    links = {key: _CVE.findall(str(one.links)[:_MAX_LINKS]) for key, one in vulnerabilities.items()}
    for key, identities in (report.found or {}).items():
        environments = (report.environments or {}).get(key) or [_Environment()]
        for identity in dict.fromkeys(map(str, identities or ())):
            vulnerability = vulnerabilities.get(identity)
            if vulnerability is None:
                builder.refuse("vulnerabilities that the report lacks")
                continue
            package_type = _type(environments[0], vulnerability.distribution or distribution)
            _add(builder, packages.get(key, _Package()), vulnerability, package_type, links[identity])
    return [builder.report(image_digests=[report.digest], os_family=distribution.did, os_version=distribution.version)]


def _type(environment: _Environment, distribution: _Distribution) -> str:
    """A package's database is a path, behind the kind of what is no distribution's (`python:usr/lib/…`)."""
    kind = str(environment.database)[:80].partition(":")[0]
    return find_type(kind) if kind in _LIBRARIES else os_type(distribution.did) or DISTRIBUTION


def _add(
    builder: FindingBuilder, package: _Package, vulnerability: _Vulnerability, package_type: str, cves: list[str]
) -> None:
    """A library's fixed version is one of several values in a query, and some are named by what is wrong alone."""
    fixed = vulnerability.fixed
    among = _FIXED.search(fixed[:_MAX_LINKS]) if isinstance(fixed, str) else None
    named = _NAMED.match(vulnerability.name) if isinstance(vulnerability.name, str) else None
    builder.add(
        vulnerability=named[1] if named else cves and cves[0],
        package=package.name,
        package_type=package_type,
        installed=package.version,
        fixed=unquote(among[1]) if among else fixed,
        severity=vulnerability.severity,
        architecture=package.arch,
        aliases=cves,
    )
