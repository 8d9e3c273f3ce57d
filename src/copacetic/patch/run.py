# SPDX-License-Identifier: Apache-2.0
"""
The use cases: plan an image, patch it, look into it. One flow over a list of platforms.

Sources and destinations are given; nothing here knows what they are. Platforms are worked on side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from copacetic.errors import PlanFileError
from copacetic.oci import Digest, Platform
from copacetic.oci.transport import Destination, Source
from copacetic.patch.environment import Environment
from copacetic.patch.export import write_image
from copacetic.patch.image import PlatformImage, SourceImage, load_image
from copacetic.patch.outcome import Outcome, PlatformOutcome
from copacetic.patch.planner import select_reports
from copacetic.patch.platform import (
    PatchedPlatform,
    describe_plan,
    open_platform,
    patch_platform,
    plan_platform,
    untouched,
)
from copacetic.patch.request import PatchRequest
from copacetic.updates import Finding, Plan, Report

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """The plans of an image's platforms, and, where they were asked for, the graphs that would be solved."""

    plans: tuple[Plan, ...]
    graphs: Mapping[str, Definition]
    """By platform, of the plans that run something."""


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
    concerned = [p for p in image.platforms if str(p.platform) in findings]

    def one(platform: PlatformImage) -> tuple[Plan, Definition | None]:
        opened = open_platform(image, platform, environment)
        prepared = plan_platform(image, opened, findings[str(platform.platform)], request, environment)
        graph = describe_plan(prepared, image, opened, environment) if graphs else None
        return prepared.plan, graph

    made = _side_by_side(one, concerned, environment.jobs)
    return PlannedImage(
        plans=tuple(plan for plan, _ in made),
        graphs={str(plan.platform): graph for plan, graph in made if graph is not None},
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
            text = str(platform.platform)
            if text not in findings or (plans and text not in stored):
                return untouched(platform, None, "no report or plan is about this platform")
            folder = scratch / text.replace("/", "-")
            folder.mkdir()
            return patch_platform(image, platform, request, findings[text], stored.get(text), folder, environment)

        results = _side_by_side(one, image.platforms, environment.jobs)
        patched = {r.image.original.descriptor.digest: r.image for r in results if isinstance(r, PatchedPlatform)}
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
) -> Mapping[str, tuple[Finding, ...] | None]:
    """By platform: None means every available update, a platform that is absent stays as it is."""
    if not reports:
        return {str(p.platform): None for p in image.platforms}
    selected = select_reports(reports, image, lenient=request.ignore_errors)
    return {platform: findings for platform, findings in selected.items() if findings is not None}


def _stored_plans(plans: Sequence[Plan], image: SourceImage) -> Mapping[str, Plan]:
    by_digest = {p.descriptor.digest: str(p.platform) for p in image.platforms}
    stored: dict[str, Plan] = {}
    for plan in plans:
        platform = by_digest.get(plan.image_digest)
        if platform is None:
            message = f"the plan is for {plan.image_digest} ({plan.platform}), which {image.source.name} doesn't have"
            raise PlanFileError(message)
        stored[platform] = plan
    return stored


def _side_by_side(work: Callable[[PlatformImage], _T], platforms: Sequence[PlatformImage], jobs: int) -> list[_T]:
    """Run one thread per platform; the first failure, in the index's order, is the one that is raised."""
    if len(platforms) < 2:
        return [work(platform) for platform in platforms]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, platforms))


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
