# SPDX-License-Identifier: Apache-2.0
"""Vulnerabilities as Anchore Engine lists them (`anchore-cli --json image vuln`), by binary packages."""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, has, sketch
from copacetic.report.grammar import FindingBuilder, find_type
from copacetic.updates import Report


class _Row(Shape, frozen=True):
    vuln: object = None
    package_name: object = None
    package_type: object = None
    package_version: object = ""
    package_path: object = None
    fix: object = ""
    severity: object = ""


class _Document(Shape, frozen=True, rename={"old_digest": "imageDigest", "tag": "imageFullTag"}):
    old_digest: object = None
    image_digest: object = None
    tag: object = ""
    vulnerabilities: list[_Row] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """A feed's group in the first row, or what kind of vulnerabilities was asked for."""
    seen = sketch(head)
    return has(seen, "vulnerability_type") or has(at(seen, "vulnerabilities", 0), "feed_group")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    builder = FindingBuilder("anchore", name)
    for row in document.vulnerabilities or []:
        builder.add(
            vulnerability=row.vuln,
            package=row.package_name,
            package_type=find_type(row.package_type),
            installed=row.package_version,
            fixed=row.fix,
            severity=row.severity,
            locations=row.package_path if row.package_path not in ("None", "pkgdb") else None,
        )
    return [builder.report(image_digests=[document.image_digest, document.old_digest], image_name=document.tag)]
