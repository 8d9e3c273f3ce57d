# SPDX-License-Identifier: Apache-2.0
"""One variant of an image from end to end: planned, applied the way its plan says, proven; not yet written anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import PackageError, RepositoryError, UnreachableError
from copacetic.oci.manifest import layer_compression, layer_media_type
from copacetic.pipeline.apply import open_ways
from copacetic.pipeline.apply.kept import KeptLayers
from copacetic.pipeline.job import Job, Ways
from copacetic.pipeline.layer import ComposedLayer, LayerRequest
from copacetic.pipeline.open.image import PlatformImage
from copacetic.pipeline.outcome import PlatformOutcome
from copacetic.pipeline.plan.complete import refuse_incomplete
from copacetic.pipeline.plan.leftout import add_faults, nothing_left_out
from copacetic.pipeline.plan.make import PreparedPlan, make_plan
from copacetic.pipeline.plan.stored import prepare_stored
from copacetic.request import LayerCompression
from copacetic.updates import Plan

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition
    from copacetic.pipeline.prove import Proof
    from copacetic.pipeline.publish.manifest import PatchedImage

__all__ = ["PatchedPlatform", "patch_variant", "plan_variant", "untouched"]


class PatchedPlatform(Struct, frozen=True, kw_only=True):
    """A variant that is proven, before anything is written."""

    image: PatchedImage
    plan: Plan
    proof: Proof


def plan_variant(job: Job, *, graph: bool) -> tuple[Plan, Definition | None]:
    """Plan one variant, with the graph that would be solved if it is asked for; packages are fetched into the cache."""
    with open_ways(job) as ways:
        prepared = make_plan(job, ways, nothing_left_out(tolerant=job.request.ignore_errors))
        return prepared.plan, ways.of(prepared.plan.strategy).describe(prepared.packages) if graph else None


def patch_variant(job: Job) -> PlatformOutcome | PatchedPlatform:
    """Plan, apply and prove one variant; nothing is written outside the job's scratch folder and the cache."""
    with open_ways(job) as ways:
        if job.stored is not None:
            return _apply(prepare_stored(job.stored, job, ways), job, ways)
        left_out = nothing_left_out(tolerant=job.request.ignore_errors)
        while True:
            try:
                prepared = make_plan(job, ways, left_out)
            except (RepositoryError, UnreachableError) as error:
                if not ways.delegate.can_help(error):
                    raise
                return _delegate(job, ways, error)
            try:
                return _apply(prepared, job, ways)
            except PackageError as error:  # some faults show only when everything is unpacked
                add_faults(left_out, error, prepared.plan.sections)


def _apply(prepared: PreparedPlan, job: Job, ways: Ways) -> PlatformOutcome | PatchedPlatform:
    plan, variant = prepared.plan, job.opened.variant
    if not _is_enough(plan, job, prepared.excuse):
        return untouched(variant, plan, "nothing to update")
    way = ways.of(plan.strategy)
    compression = select_compression(job.request.compression, variant)
    request = LayerRequest(
        packages=prepared.packages,
        epoch=prepared.newest_mtime if job.request.epoch is None else job.request.epoch,
        compression=compression,
        media_type=layer_media_type(variant.manifest, compression),
        base=way.base,
    )
    layers = KeptLayers(job.session.cache)
    with layers.lock(request):
        composed = layers.find(request, job.opened.fs)
        if composed is None:
            with job.session.progress.task("compose layer"):
                composed = way.make(request)
        proved = _prove(job, plan, composed, epoch=request.epoch)
        if composed.proven is None:
            kept = replace(composed, notes=proved.proof.notes, proven=proved.proof.layer)
            layers.keep(request, job.opened.fs, kept)
    return proved


def _delegate(job: Job, ways: Ways, error: RepositoryError | UnreachableError) -> PlatformOutcome | PatchedPlatform:
    variant = job.opened.variant
    done = ways.delegate.make(select_compression(job.request.compression, variant), error)
    if not _is_enough(done.plan, job, "") or done.composed is None:
        return untouched(variant, done.plan, "nothing to update")
    return _prove(job, done.plan, done.composed, epoch=done.epoch)


def _prove(job: Job, plan: Plan, composed: ComposedLayer, *, epoch: int) -> PatchedPlatform:
    """What only a patch needs is imported by the first."""
    from copacetic.pipeline.prove import prove
    from copacetic.pipeline.publish.manifest import build_image

    proof = prove(job, plan, composed)
    image = build_image(job.opened, plan, composed.layer, epoch=epoch)
    return PatchedPlatform(image=image, plan=plan, proof=proof)


def _is_enough(plan: Plan, job: Job, excuse: str) -> bool:
    """Tell whether there is anything to do. Raises when it isn't what was asked for, and that isn't tolerated."""
    if not job.request.ignore_errors:
        refuse_incomplete(plan, excuse)
    return bool(plan.updates)


def select_compression(wanted: LayerCompression, variant: PlatformImage) -> str:
    """Return how the new layer is compressed: as asked, or as the image's top layer is."""
    if wanted is not LayerCompression.AUTO:
        return str(wanted)
    layers = variant.manifest.layers
    return "zstd" if layers and layer_compression(layers[-1].media_type) == "zstd" else "gzip"


def untouched(variant: PlatformImage, plan: Plan | None, note: str) -> PlatformOutcome:
    """Describe a variant that stays as it is."""
    return PlatformOutcome(
        platform=variant.platform,
        plan=plan,
        before=variant.digest,
        matched=plan.matched if plan else None,
        notes=(note,),
    )
