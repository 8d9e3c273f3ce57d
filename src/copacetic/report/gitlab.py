# SPDX-License-Identifier: Apache-2.0
"""
GitLab's container scanning reports, which Trivy writes too.

Names are those of binary packages. A fix stands in a sentence; a row without one has none.
"""

from __future__ import annotations

import re

from copacetic.report.document import Shape, at, decode, sketch
from copacetic.report.grammar import FindingBuilder, os_type
from copacetic.updates import Report

_UPGRADE = re.compile(r"Upgrade \S{1,255} (?:from \S{1,255} )?to (?:version )?([^\s,]{1,255}(?:, ?[^\s,]{1,255})*)")


class _Row(Shape, frozen=True):
    cve: object = None
    severity: object = ""
    solution: object = ""
    location: object = None
    identifiers: object = None


class _Document(Shape, frozen=True):
    scan: object = None
    vulnerabilities: list[_Row] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """The scan's type may come behind the rows."""
    seen = sketch(head)
    return at(seen, "scan", "type") == "container_scanning" or (
        at(seen, "vulnerabilities", 0, "location", "dependency") is not None
        and at(seen, "vulnerabilities", 0, "identifiers") is not None
    )


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    builder = FindingBuilder("gitlab", name)
    rows = decode(data, _Document, f"the report {name}").vulnerabilities or []
    for row in rows:
        upgrade = _UPGRADE.match(row.solution) if isinstance(row.solution, str) else None
        identifiers = row.identifiers if isinstance(row.identifiers, list) else []
        identities = [
            at(one, "value") for one in identifiers if at(one, "type") in ("cve", "ghsa", "rhsa", "usn", "elsa")
        ]
        builder.add(
            vulnerability=identities[0] if identities else row.cve,
            package=at(row.location, "dependency", "package", "name"),
            package_type=os_type(at(row.location, "operating_system")) or "generic",
            installed=at(row.location, "dependency", "version"),
            fixed=upgrade and upgrade[1],
            severity=row.severity,
            aliases=identities[1:],
        )
    image = next((at(row.location, "image") for row in rows), "")
    system, _, version = (
        str(next((at(row.location, "operating_system") for row in rows), "")).replace(":", " ").partition(" ")
    )
    return [builder.report(image_digests=[image], image_name=image, os_family=system, os_version=version)]
