# SPDX-License-Identifier: Apache-2.0
"""One platform of an image: planned, applied the way its plan says, proven, and described; not yet written anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from copacetic.errors import PackageError, RepositoryError, SolverError, UnreachableError
from copacetic.oci.manifest import layer_compression, layer_media_type
from copacetic.pipeline.apply.applier import make_applier
from copacetic.pipeline.apply.kept import ComposedLayer, KeptLayers, LayerRequest
from copacetic.pipeline.apply.unpack import Unpacking
from copacetic.pipeline.environment import Environment
from copacetic.pipeline.open.image import OpenedImage, PlatformImage, SourceImage, open_filesystem, recognise
from copacetic.pipeline.open.stale import stale_descriptions
from copacetic.pipeline.outcome import PlatformOutcome
from copacetic.pipeline.plan.judge import ScriptJudge
from copacetic.pipeline.plan.make import (
    LeftOut,
    PreparedPlan,
    StrategyChoice,
    check_plan,
    choose_strategy,
    fetch_packages,
    make_plan,
    refuse_incomplete,
)
from copacetic.pipeline.plan.sources import repository_context
from copacetic.pipeline.plan.vouch import take_plans_word, vouch_for_plan
from copacetic.pipeline.prove.content import ReadBack, verify_layer, verify_result
from copacetic.pipeline.prove.extent import Side
from copacetic.pipeline.publish.write import PatchedImage, build_image
from copacetic.repository import open_repository
from copacetic.request import LayerCompression, PatchRequest, Strategy
from copacetic.updates import Finding, MatchedFinding, Plan

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition

__all__ = [
    "PatchedPlatform",
    "describe_plan",
    "open_platform",
    "patch_platform",
    "plan_platform",
    "untouched",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchedPlatform:
    """One platform after verification, before anything is written."""

    image: PatchedImage
    plan: Plan
    matched: tuple[MatchedFinding, ...] | None
    notes: tuple[str, ...]


def open_platform(image: SourceImage, platform: PlatformImage, environment: Environment) -> OpenedImage:
    """Look into a platform's files. Raises as `recognise` does."""
    fs = open_filesystem(
        image.source, platform, environment.cache, jobs=environment.jobs, progress=environment.progress
    )
    return recognise(platform, fs, image.source.name)


def plan_platform(
    image: SourceImage,
    opened: OpenedImage,
    findings: Sequence[Finding] | None,
    request: PatchRequest,
    environment: Environment,
    unpacking: Unpacking | None = None,
    left_out: LeftOut | None = None,
) -> PreparedPlan:
    """
    Plan one platform; packages are fetched into the cache. `unpacking` is what will compose it, if anything, and
    `left_out` what was found to be no part of it.
    """
    if request.strategy is Strategy.EXEC:
        from copacetic.pkgmgr import open_package_manager

        open_package_manager(opened.fs, opened.database)  # an image that can't run it is refused before all the work
    return make_plan(
        image.source.name,
        opened,
        open_repository(repository_context(opened, environment, tolerant=request.ignore_errors)),
        ScriptJudge(opened.fs, environment.cache, unpacking or Unpacking(opened.fs)),
        findings=findings,
        choice=_choice(opened, request, environment),
        progress=environment.progress,
        left_out=left_out or LeftOut(tolerant=request.ignore_errors),
        stale=lambda: stale_descriptions(image, opened),
    )


def describe_plan(
    prepared: PreparedPlan, image: SourceImage, opened: OpenedImage, environment: Environment
) -> Definition | None:
    """Return the graph of a plan that runs something."""
    if prepared.plan.strategy != Strategy.EXEC or environment.execution is None or not prepared.packages:
        return None
    from copacetic.pipeline.apply.execute import describe_run

    return describe_run(opened, prepared.packages, image, environment.execution)


def _choice(opened: OpenedImage, request: PatchRequest, environment: Environment) -> StrategyChoice:
    def why_not() -> str:
        from copacetic.pipeline.apply.execute import why_not

        return why_not(opened, environment.execution)

    return StrategyChoice(asked=request.strategy, why_not=why_not)


def _prepare_stored(
    plan: Plan, opened: OpenedImage, request: PatchRequest, environment: Environment, unpacking: Unpacking
) -> PreparedPlan:
    """Fetch exactly what a stored plan names, and judge its scripts anew: the plan is trusted for neither."""
    checked = check_plan(plan, opened)
    repository = open_repository(repository_context(opened, environment, tolerant=request.ignore_errors))
    checked = take_plans_word(checked) if request.trust_plan else vouch_for_plan(checked, repository)
    fetched = fetch_packages(repository, checked.updates, environment.progress)
    judged = ScriptJudge(opened.fs, environment.cache, unpacking).judge(fetched)
    choice = _choice(opened, request, environment)
    if request.strategy is Strategy.AUTO and checked.strategy == Strategy.EXEC:
        choice = replace(choice, asked=Strategy.EXEC)
    strategy, reason, _ = choose_strategy(judged.packages, choice)
    checked = replace(
        checked,
        updates=tuple(package.update for package in judged.packages),
        strategy=str(strategy),
        strategy_reason=checked.strategy_reason if choice.asked is not request.strategy else reason,
    )
    return PreparedPlan(plan=checked, packages=judged.packages, newest_mtime=judged.newest_mtime)


def patch_platform(
    image: SourceImage,
    platform: PlatformImage,
    request: PatchRequest,
    findings: Sequence[Finding] | None,
    stored: Plan | None,
    scratch: Path,
    environment: Environment,
) -> PlatformOutcome | PatchedPlatform:
    """Plan, apply, verify and describe one platform; nothing is written outside the scratch folder and the cache."""
    with _warmed(image, platform, request, environment):
        opened = open_platform(image, platform, environment)
        with Unpacking(opened.fs, None if request.strategy is Strategy.EXEC else scratch) as unpacking:
            return _patch_opened(image, opened, request, findings, stored, scratch, environment, unpacking)


def _warmed(
    image: SourceImage, platform: PlatformImage, request: PatchRequest, environment: Environment
) -> AbstractContextManager[None]:
    """Have the image ready where it is going to be run, when it is clear from the start that it will be."""
    if request.strategy is not Strategy.EXEC or environment.execution is None:
        return nullcontext()
    from copacetic.pipeline.apply.send import warm_up

    return warm_up(image, platform, environment, environment.execution)


def _patch_opened(
    image: SourceImage,
    opened: OpenedImage,
    request: PatchRequest,
    findings: Sequence[Finding] | None,
    stored: Plan | None,
    scratch: Path,
    environment: Environment,
    unpacking: Unpacking,
) -> PlatformOutcome | PatchedPlatform:
    if stored is not None:
        prepared = _prepare_stored(stored, opened, request, environment, unpacking)
        return _apply(prepared, image, opened, request, scratch, environment, unpacking)
    left_out = LeftOut(tolerant=request.ignore_errors)
    while True:
        try:
            prepared = plan_platform(image, opened, findings, request, environment, unpacking, left_out)
        except (RepositoryError, UnreachableError) as error:
            if not _is_delegable(error, request, environment):
                raise
            return _patch_delegated(image, opened, request, findings, scratch, environment, error)
        try:
            return _apply(prepared, image, opened, request, scratch, environment, unpacking)
        except PackageError as error:  # some faults show only when everything is unpacked
            left_out.add_faults(error, prepared.plan.updates)


def _apply(
    prepared: PreparedPlan,
    image: SourceImage,
    opened: OpenedImage,
    request: PatchRequest,
    scratch: Path,
    environment: Environment,
    unpacking: Unpacking,
) -> PlatformOutcome | PatchedPlatform:
    platform, plan = opened.image, prepared.plan
    if not request.ignore_errors:
        refuse_incomplete(plan)
    if not plan.updates:
        return untouched(platform, plan, "nothing to update")
    epoch = prepared.newest_mtime if request.epoch is None else request.epoch
    layer_request = _layer_request(prepared, epoch, request, platform)
    composed, matched = _make_layer(layer_request, plan, image, opened, scratch, environment, unpacking)
    return PatchedPlatform(
        image=build_image(platform, plan, composed.layer, epoch=epoch),
        plan=plan,
        matched=matched,
        notes=composed.notes,
    )


def _layer_request(prepared: PreparedPlan, epoch: int, request: PatchRequest, platform: PlatformImage) -> LayerRequest:
    compression = select_compression(request.compression, platform)
    return LayerRequest(
        packages=prepared.packages,
        epoch=epoch,
        compression=compression,
        media_type=layer_media_type(platform.manifest, compression),
        base=platform.config.diff_ids if prepared.plan.strategy == Strategy.EXEC else (),
    )


def _make_layer(
    request: LayerRequest,
    plan: Plan,
    image: SourceImage,
    opened: OpenedImage,
    scratch: Path,
    environment: Environment,
    unpacking: Unpacking,
) -> tuple[ComposedLayer, tuple[MatchedFinding, ...] | None]:
    """Take a proven layer or make one; either way the composed image is verified."""
    layers = KeptLayers(environment.cache)
    with layers.lock(request):
        composed = layers.find(request, opened.fs)
        if composed is None:
            applier = make_applier(plan.strategy, image, environment, unpacking)
            with environment.progress.task("compose layer"):
                composed = applier.make(request, opened, scratch)
        with environment.progress.task("verify"):
            read_back = ReadBack(composed.layer, None if composed.reused else opened.database.checksum_algorithm)
            after = read_back.stacked_on(opened.fs)
            matched = verify_result(plan, before=opened.database, after=after)
            if not composed.reused:
                notes = verify_layer(
                    plan,
                    before=Side(opened.fs, opened.database),
                    after=after,
                    read_back=read_back,
                    unchanged=composed.unchanged,
                    explanation=composed.explanation,
                    checksums=composed.checksums,
                )
                composed = replace(composed, notes=(*composed.notes, *notes))
                layers.keep(request, opened.fs, composed)
    return composed, matched


def _is_delegable(error: RepositoryError | UnreachableError, request: PatchRequest, environment: Environment) -> bool:
    """
    Tell whether a builder may do better: repositories that can't be reached or used from here. What is wrong with a
    signature or a date is wrong everywhere, and repositories that the user names are named to us.
    """
    execution = environment.execution
    if execution is None or not execution.delegate or environment.repository.definitions:
        return False
    return request.strategy is not Strategy.UNPACK and type(error) in {RepositoryError, UnreachableError}


def _patch_delegated(
    image: SourceImage,
    opened: OpenedImage,
    request: PatchRequest,
    findings: Sequence[Finding] | None,
    scratch: Path,
    environment: Environment,
    error: RepositoryError | UnreachableError,
) -> PlatformOutcome | PatchedPlatform:
    from copacetic.pipeline.apply.delegate import upgrade_in_builder

    try:
        done = upgrade_in_builder(
            image,
            opened,
            request,
            findings,
            scratch,
            environment,
            reason=str(error),
            compression=select_compression(request.compression, opened.image),
        )
    except SolverError as failure:
        raise type(failure)(f"{failure} (the builder was to upgrade by itself: {error})", hint=failure.hint) from error
    if done.layer is None:
        return untouched(opened.image, done.plan, "nothing to update")
    return PatchedPlatform(
        image=build_image(opened.image, done.plan, done.layer, epoch=done.epoch),
        plan=done.plan,
        matched=done.matched,
        notes=done.notes,
    )


def select_compression(wanted: LayerCompression, platform: PlatformImage) -> str:
    """Return how the new layer is compressed: as asked, or as the image's top layer is."""
    if wanted is not LayerCompression.AUTO:
        return str(wanted)
    layers = platform.manifest.layers
    return "zstd" if layers and layer_compression(layers[-1].media_type) == "zstd" else "gzip"


def untouched(platform: PlatformImage, plan: Plan | None, note: str) -> PlatformOutcome:
    """Describe a platform that stays as it is."""
    return PlatformOutcome(
        platform=platform.platform,
        plan=plan,
        before=platform.descriptor.digest,
        matched=plan.matched if plan else None,
        notes=(note,),
    )
