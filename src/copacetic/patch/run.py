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
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from copacetic.cache import Cache
from copacetic.errors import PlanFileError
from copacetic.http import HttpClient
from copacetic.oci import Digest, Platform
from copacetic.oci.manifest import layer_compression, layer_media_type
from copacetic.oci.transport import Destination, Source
from copacetic.patch.export import PatchedImage, build_image, write_image
from copacetic.patch.image import OpenedImage, PlatformImage, SourceImage, load_image, open_filesystem, recognise
from copacetic.patch.layer import ComposedLayer, LayerMaker, LayerRequest
from copacetic.patch.outcome import Outcome, PlatformOutcome
from copacetic.patch.planner import (
    PreparedPlan,
    check_plan,
    fetch_packages,
    make_plan,
    refuse_incomplete,
    select_reports,
)
from copacetic.patch.request import LayerCompression, PatchRequest
from copacetic.patch.verify import ReadBack, verify_checksums, verify_result
from copacetic.progress import Progress
from copacetic.repository import RepositoryContext, RepositorySettings, open_repository
from copacetic.unpack import open_unpacker
from copacetic.updates import Finding, MatchedFinding, Plan, Report

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The means of a run, made by whoever starts it."""

    cache: Cache
    http: HttpClient
    repository: RepositorySettings
    progress: Progress
    now: datetime
    jobs: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patched:
    """One platform after verification, before anything is written."""

    image: PatchedImage
    plan: Plan
    matched: tuple[MatchedFinding, ...] | None
    notes: tuple[str, ...]


def plan_image(
    source: Source, request: PatchRequest, reports: Sequence[Report], environment: Environment
) -> tuple[Plan, ...]:
    """Plan every chosen platform that is concerned; nothing is changed."""
    image = load_image(source, [Platform.parse(text) for text in request.platforms])
    findings = _findings(image, reports, request)
    concerned = [p for p in image.platforms if str(p.platform) in findings]

    def one(platform: PlatformImage) -> Plan:
        opened = _open(image, platform, environment)
        return _plan(image, opened, findings[str(platform.platform)], environment).plan

    return tuple(_side_by_side(one, concerned, environment.jobs))


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

        def one(platform: PlatformImage) -> PlatformOutcome | _Patched:
            text = str(platform.platform)
            if text not in findings or (plans and text not in stored):
                return _untouched(platform, None, "no report or plan is about this platform")
            folder = scratch / text.replace("/", "-")
            folder.mkdir()
            return _patch_platform(image, platform, request, findings[text], stored.get(text), folder, environment)

        results = _side_by_side(one, image.platforms, environment.jobs)
        patched = {r.image.original.descriptor.digest: r.image for r in results if isinstance(r, _Patched)}
        reference = ""
        if patched:
            with destination() as target, environment.progress.task(f"write {target.name}"):
                reference = write_image(image, patched, target, scratch=scratch, jobs=environment.jobs)
    _, at, digest = reference.rpartition("@")
    return Outcome(
        image=source.name,
        reference=reference,
        digest=Digest.parse(digest) if at else None,
        platforms=tuple(_outcome(r) if isinstance(r, _Patched) else r for r in results),
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


def _open(image: SourceImage, platform: PlatformImage, environment: Environment) -> OpenedImage:
    fs = open_filesystem(
        image.source, platform, environment.cache, jobs=environment.jobs, progress=environment.progress
    )
    return recognise(platform, fs, image.source.name)


def _context(opened: OpenedImage, environment: Environment) -> RepositoryContext:
    return RepositoryContext(
        fs=opened.fs,
        package_type=opened.database.package_type,
        installed=opened.database.packages(),
        assumed=opened.database.assumed(),
        architecture=opened.database.native_architecture,
        distro=opened.distro,
        http=environment.http,
        cache=environment.cache,
        now=environment.now,
        settings=environment.repository,
        progress=environment.progress,
    )


def _plan(
    image: SourceImage, opened: OpenedImage, findings: Sequence[Finding] | None, environment: Environment
) -> PreparedPlan:
    return make_plan(
        image.source.name,
        opened,
        open_repository(_context(opened, environment)),
        open_unpacker(opened.fs, opened.database),
        findings=findings,
        progress=environment.progress,
    )


def _prepare_stored(plan: Plan, opened: OpenedImage, environment: Environment) -> PreparedPlan:
    """Fetch exactly what a stored plan names, and judge its scripts anew: the plan is not trusted for that."""
    checked = check_plan(plan, opened)
    repository = open_repository(_context(opened, environment))
    packages = fetch_packages(repository, checked.updates, environment.progress)
    return PreparedPlan(plan=checked, packages=packages)


def _patch_platform(
    image: SourceImage,
    platform: PlatformImage,
    request: PatchRequest,
    findings: Sequence[Finding] | None,
    stored: Plan | None,
    scratch: Path,
    environment: Environment,
) -> PlatformOutcome | _Patched:
    """Plan, compose, verify and describe one platform; nothing is written outside the scratch folder and the cache."""
    opened = _open(image, platform, environment)
    if stored is None:
        prepared = _plan(image, opened, findings, environment)
        if not request.ignore_errors:
            refuse_incomplete(prepared.plan)
    else:
        prepared = _prepare_stored(stored, opened, environment)
    plan = prepared.plan
    if not plan.updates:
        return _untouched(platform, plan, "nothing to update")
    unpacker = open_unpacker(opened.fs, opened.database)
    epoch = unpacker.newest_mtime(prepared.packages) if request.epoch is None else request.epoch
    compression = _compression(request.compression, platform)
    layer_request = LayerRequest(
        packages=prepared.packages,
        epoch=epoch,
        compression=compression,
        media_type=layer_media_type(platform.manifest, compression),
    )
    composed, matched = _make_layer(layer_request, plan, opened, scratch, environment)
    return _Patched(
        image=build_image(platform, plan, composed.layer, epoch=epoch),
        plan=plan,
        matched=matched,
        notes=composed.notes,
    )


def _make_layer(
    request: LayerRequest, plan: Plan, opened: OpenedImage, scratch: Path, environment: Environment
) -> tuple[ComposedLayer, tuple[MatchedFinding, ...] | None]:
    """Take a proven layer or make one; either way the composed image is verified."""
    maker = LayerMaker(environment.cache)
    with maker.kept.lock(request.key):
        composed = maker.find(request, opened.fs)
        if composed is None:
            with environment.progress.task("compose layer"):
                composed = maker.make(request, opened.fs, scratch)
        with environment.progress.task("verify"):
            read_back = ReadBack(composed.layer, opened.database.checksum_algorithm)
            after = read_back.stacked_on(opened.fs)
            matched = verify_result(plan, before=opened.database, after=after)
            if not composed.reused:
                verify_checksums(plan, after=after, read_back=read_back, unchanged=composed.unchanged)
                maker.keep(request, opened.fs, composed)
    return composed, matched


def _compression(wanted: LayerCompression, platform: PlatformImage) -> str:
    if wanted is not LayerCompression.AUTO:
        return str(wanted)
    layers = platform.manifest.layers
    return "zstd" if layers and layer_compression(layers[-1].media_type) == "zstd" else "gzip"


def _untouched(platform: PlatformImage, plan: Plan | None, note: str) -> PlatformOutcome:
    return PlatformOutcome(
        platform=platform.platform,
        plan=plan,
        before=platform.descriptor.digest,
        matched=plan.matched if plan else None,
        notes=(note,),
    )


def _outcome(patched: _Patched) -> PlatformOutcome:
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
