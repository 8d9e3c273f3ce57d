# SPDX-License-Identifier: Apache-2.0
"""
The gate: nothing is published unless the result, read back as a stranger would, is what plan and packages say.

It is the same for every way of applying a plan. Of a layer that was proven before only the inventory is looked at: what
is in it can't have changed, as its digest says.
"""

from __future__ import annotations

from msgspec import Struct

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase, find_again
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerstore import KnownLayer
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer
from copacetic.pipeline.prove.content import check_content
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.pipeline.prove.extent import check_extent
from copacetic.pipeline.prove.inventory import check_inventory
from copacetic.pipeline.prove.readback import ReadBack
from copacetic.updates import MatchedFinding, Plan, Section

__all__ = ["Proof", "prove"]


class Proof(Struct, frozen=True, kw_only=True):
    """That a layer is what its plan says."""

    matched: tuple[MatchedFinding, ...] | None
    """The report's findings as they stand in the result; None without a report."""
    notes: tuple[str, ...]
    """What a user should know of it."""
    inventories: tuple[PackageDatabase, ...]
    """The result's."""
    layer: KnownLayer
    """What is in the new layer."""


def prove(job: Job, plan: Plan, composed: ComposedLayer) -> Proof:
    """Raises `VerificationError`."""
    opened, planned = job.opened, {section.package_type: section for section in plan.sections}
    asked = [one for one in opened.inventories if one is opened.own or one.package_type in planned]
    sections = [(one, planned.get(one.package_type, Section(package_type=one.package_type))) for one in asked]
    with job.session.progress.task("verify"):
        if composed.proven is not None:
            read_back = ReadBack(composed.layer, composed.proven, {})
        else:
            algorithms = {inventory.checksum_algorithm for inventory, _ in sections}
            read_back = ReadBack.of(composed.layer, algorithms)
        after = read_back.stacked_on(opened.fs)
        parts = tuple(Part(section, inventory, _find(inventory, after)) for inventory, section in sections)
        matched = check_inventory(plan, parts)
        inventories = tuple(part.after for part in parts)
        if composed.proven is not None:
            return Proof(matched=matched, notes=composed.notes, inventories=inventories, layer=read_back.known)
        evidence = Evidence(
            parts=parts,
            before=opened.fs,
            after=after,
            index=read_back.known.index,
            checksums=read_back.checksums,
            digest=after.digest,
            unchanged=composed.unchanged,
            explanation=composed.explanation,
            shipped=composed.checksums,
        )
        check_content(evidence)
        notes = (*composed.notes, *check_extent(evidence))
        return Proof(matched=matched, notes=notes, inventories=inventories, layer=read_back.known)


def _find(inventory: PackageDatabase, result: ImageFilesystem) -> PackageDatabase:
    after = find_again(inventory, result)
    if after is None:
        raise VerificationError("the result has no package database of the image's own kind")
    return after
