# SPDX-License-Identifier: Apache-2.0
"""
The gate: nothing is published unless the result, read back as a stranger would, is what plan and packages say.

It is the same for every way of applying a plan. Of a layer that was proven before only the inventory is looked at: what
is in it can't have changed, as its digest says.
"""

from __future__ import annotations

from dataclasses import dataclass

from copacetic.errors import VerificationError
from copacetic.inventory import PackageDatabase, detect_database
from copacetic.oci.layerstore import KnownLayer
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer
from copacetic.pipeline.prove.content import check_content
from copacetic.pipeline.prove.evidence import Evidence, Side
from copacetic.pipeline.prove.extent import check_extent
from copacetic.pipeline.prove.inventory import check_inventory
from copacetic.pipeline.prove.readback import ReadBack
from copacetic.updates import MatchedFinding, Plan

__all__ = ["Proof", "prove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a layer is what its plan says."""

    matched: tuple[MatchedFinding, ...] | None
    """The report's findings as they stand in the result; None without a report."""
    notes: tuple[str, ...]
    """What a user should know of it."""
    database: PackageDatabase
    """The result's."""
    layer: KnownLayer
    """What is in the new layer."""


def prove(job: Job, plan: Plan, composed: ComposedLayer) -> Proof:
    """Raises `VerificationError`."""
    opened = job.opened
    with job.session.progress.task("verify"):
        if composed.proven is not None:
            read_back = ReadBack(composed.layer, composed.proven, {})
        else:
            read_back = ReadBack.of(composed.layer, opened.database.checksum_algorithm)
        after = read_back.stacked_on(opened.fs)
        database = detect_database(after)
        if database is None or database.package_type != plan.package_type:
            raise VerificationError("the result has no package database of the image's own kind")
        matched = check_inventory(plan, opened.database, database)
        if composed.proven is not None:
            return Proof(matched=matched, notes=composed.notes, database=database, layer=read_back.known)
        evidence = Evidence(
            plan=plan,
            before=Side(opened.fs, opened.database),
            after=Side(after, database),
            index=read_back.known.index,
            checksums=read_back.checksums,
            digest=after.digest,
            unchanged=composed.unchanged,
            explanation=composed.explanation,
            shipped=composed.checksums,
        )
        check_content(evidence)
        notes = (*composed.notes, *check_extent(evidence))
        return Proof(matched=matched, notes=notes, database=database, layer=read_back.known)
