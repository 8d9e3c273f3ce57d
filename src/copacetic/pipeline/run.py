# SPDX-License-Identifier: Apache-2.0
"""
The use cases: plan an image, patch it, look into it. One flow over a list of platforms.

Sources and destinations are given; nothing here knows what they are. Platforms are worked on side by side.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from copacetic.errors import CopaError, PlanFileError
from copacetic.oci import Digest, Platform
from copacetic.oci.transport import Destination, Source
from copacetic.pipeline.environment import Environment
from copacetic.pipeline.open.image import PlatformImage, SourceImage, load_image
from copacetic.pipeline.outcome import Outcome, PlatformOutcome
from copacetic.pipeline.plan.make import select_reports
from copacetic.pipeline.platform import (
    PatchedPlatform,
    describe_plan,
    open_platform,
    patch_platform,
    plan_platform,
    untouched,
)
from copacetic.pipeline.publish.write import write_image
from copacetic.request import PatchRequest
from copacetic.updates import Finding, Plan, Report

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """The plans of an image's platforms, and, where they were asked for, the graphs that would be solved."""

    plans: tuple[Plan, ...]
    graphs: Mapping[Digest, Definition]
    """By the digest of the platform's manifest, of the plans that run something."""


def plan_image(
    source: Source,
    request: PatchRequest,
    reports: Sequence[Report],
    environment: Environment,
    *,
    graphs: bool = False,
) -> PlannedImage:
    """Plan every chosen platform that is concerned; nothing is changed."""
    image = load_image(source, [Platform.parse(text) for text in request.platforms])
    findings = _findings(image, reports, request)
    concerned = [p for p in image.platforms if p.digest in findings]

    def one(platform: PlatformImage) -> tuple[Plan, Definition | None]:
        opened = open_platform(image, platform, environment)
        prepared = plan_platform(image, opened, findings[platform.digest], request, environment)
        graph = describe_plan(prepared, image, opened, environment) if graphs else None
        return prepared.plan, graph

    made = _refuse_failures(_side_by_side(one, concerned, environment.jobs), concerned)
    return PlannedImage(
        plans=tuple(plan for plan, _ in made),
        graphs={plan.image_digest: graph for plan, graph in made if graph is not None},
    )


def patch_image(
    source: Source,
    destination: Callable[[], Destination],
    request: PatchRequest,
    *,
    reports: Sequence[Report],
    plans: Sequence[Plan],
    environment: Environment,
) -> Outcome:
    """
    Patch every chosen platform and publish the result, or nothing.

    `plans` holds the stored plans to apply; empty makes new ones. The destination is opened only when there is
    something to write.
    """
    started = time.monotonic()
    image = load_image(source, [Platform.parse(text) for text in request.platforms])
    findings = _findings(image, reports, request)
    stored = _stored_plans(plans, image)
    with environment.cache.scratch() as scratch:

        def one(platform: PlatformImage) -> PlatformOutcome | PatchedPlatform:
            digest = platform.digest
            if digest not in findings or (plans and digest not in stored):
                return untouched(platform, None, "no report or plan is about this platform")
            folder = Path(tempfile.mkdtemp(dir=scratch))
            return patch_platform(image, platform, request, findings[digest], stored.get(digest), folder, environment)

        made = _side_by_side(one, image.platforms, environment.jobs)
        results = _outcomes(made, image.platforms, tolerant=request.ignore_errors)
        patched = {r.image.original.digest: r.image for r in results if isinstance(r, PatchedPlatform)}
        reference = ""
        if patched:
            with destination() as target, environment.progress.task(f"write {target.name}"):
                result = write_image(image, patched, target, scratch=scratch, jobs=environment.jobs)
                environment.progress.publishing(target.name)
                reference = target.publish(*result)
                environment.progress.published(reference)
    _, at, digest = reference.rpartition("@")
    return Outcome(
        image=source.name,
        reference=reference,
        digest=Digest.parse(digest) if at else None,
        platforms=tuple(_outcome(r) if isinstance(r, PatchedPlatform) else r for r in results),
        seconds=time.monotonic() - started,
    )


def _findings(
    image: SourceImage, reports: Sequence[Report], request: PatchRequest
) -> Mapping[Digest, tuple[Finding, ...] | None]:
    """By manifest: None means every available update, a platform that is absent stays as it is."""
    if not reports:
        return {p.digest: None for p in image.platforms}
    selected = select_reports(reports, image, lenient=request.ignore_errors)
    return {digest: findings for digest, findings in selected.items() if findings is not None}


def _stored_plans(plans: Sequence[Plan], image: SourceImage) -> Mapping[Digest, Plan]:
    there = {platform.digest for platform in image.platforms}
    for plan in plans:
        if plan.image_digest not in there:
            message = f"the plan is for {plan.image_digest} ({plan.platform}), which {image.source.name} doesn't have"
            raise PlanFileError(message)
    return {plan.image_digest: plan for plan in plans}


def _side_by_side(
    work: Callable[[PlatformImage], _T], platforms: Sequence[PlatformImage], jobs: int
) -> list[_T | CopaError]:
    """Run one thread per platform; the failure of one doesn't end the others."""

    def attempt(platform: PlatformImage) -> _T | CopaError:
        try:
            return work(platform)
        except CopaError as error:
            return error

    if len(platforms) < 2:
        return [attempt(platform) for platform in platforms]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(attempt, platforms))


def _refuse_failures(made: Sequence[_T | CopaError], platforms: Sequence[PlatformImage]) -> list[_T]:
    """Raise the first failure, in the index's order; it names its platform, and the others that failed."""
    done = [result for result in made if not isinstance(result, CopaError)]
    failed = [(p, e) for p, e in zip(platforms, made, strict=True) if isinstance(e, CopaError)]
    if not failed:
        return done
    platform, error = failed[0]
    if len(platforms) == 1:
        raise error
    others = ", ".join(str(other.platform) for other, _ in failed[1:])
    more = f" (and {others} failed, too)" if others else ""
    raise type(error)(f"{platform.platform}: {error}{more}", hint=error.hint) from error


def _outcomes(
    made: Sequence[PlatformOutcome | PatchedPlatform | CopaError],
    platforms: Sequence[PlatformImage],
    *,
    tolerant: bool,
) -> list[PlatformOutcome | PatchedPlatform]:
    """Failures are outcomes of their platforms when the others go on without them: where that is asked for."""
    if not tolerant or all(isinstance(result, CopaError) for result in made):
        return _refuse_failures(made, platforms)
    return [
        untouched(platform, None, f"failed, and stays as it is: {result}") if isinstance(result, CopaError) else result
        for platform, result in zip(platforms, made, strict=True)
    ]


def _outcome(patched: PatchedPlatform) -> PlatformOutcome:
    image = patched.image
    return PlatformOutcome(
        platform=image.original.platform,
        plan=patched.plan,
        before=image.original.descriptor.digest,
        after=image.descriptor.digest,
        layer=image.layer.descriptor,
        layer_files=image.layer.files,
        verified=True,
        matched=patched.matched,
        notes=patched.notes,
    )
