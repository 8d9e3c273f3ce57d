# SPDX-License-Identifier: Apache-2.0
"""
Update manifests, v1alpha1 and v1alpha2: what plug-ins of other tools for patching images print.

Names are those of binary packages. A row is an update, and may not say what it is for.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, sketch
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, find_type, os_type
from copacetic.updates import Report

_VERSIONS = ("v1alpha1", "v1alpha2")
UNNAMED = "unnamed"
"""Instead of a vulnerability that isn't named."""


class _Row(
    Shape, frozen=True, rename={"installed": "installedVersion", "fixed": "fixedVersion", "id": "vulnerabilityID"}
):
    id: object = None
    name: object = None
    installed: object = ""
    fixed: object = ""
    type: object = None


class _Document(Shape, frozen=True, rename={"system": "osupdates", "languages": "langupdates", "node": "nodeUpdates"}):
    metadata: object = None
    updates: list[_Row] | None = None
    node: list[_Row] | None = None
    system: list[_Row] | None = None
    languages: list[_Row] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Other documents have an `apiVersion` with a group before it."""
    return at(sketch(head), "apiVersion") in _VERSIONS


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    builder = FindingBuilder("manifest", name)
    system = at(document.metadata, "os", "type")
    package_type = os_type(system) or DISTRIBUTION
    for rows, own in (
        ([*(document.updates or ()), *(document.system or ())], True),
        ([*(document.node or ()), *(document.languages or ())], False),
    ):
        for row in rows:
            builder.add(
                vulnerability=row.id or UNNAMED,
                package=row.name,
                package_type=package_type if own else find_type(row.type),
                installed=row.installed,
                fixed=row.fixed,
            )
    return [
        builder.report(
            os_family=system,
            os_version=at(document.metadata, "os", "version"),
            architecture=at(document.metadata, "config", "arch"),
        )
    ]
