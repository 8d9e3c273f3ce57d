# SPDX-License-Identifier: Apache-2.0
"""
The library's entry points: plan, patch and inspect images.

Each opens a session, unless it is given one. Nothing is printed and no environment is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from copacetic.errors import CopaError, PlanFileError, UsageError
from copacetic.oci import Platform, Reference
from copacetic.oci.location import Location
from copacetic.pipeline.outcome import Outcome
from copacetic.pipeline.plan.policy import Policy, apply_policy
from copacetic.pipeline.run import Order, PlanSet, plan_image, prove_image, publish_result
from copacetic.progress import Progress, Silent
from copacetic.report import load_reports
from copacetic.request import PatchRequest
from copacetic.session import ImageAccess, Session, Settings, open_session
from copacetic.updates import Plan, Report

if TYPE_CHECKING:
    from copacetic.pipeline.open.inspect import Inspection

__all__ = ["PlanSet", "Session", "Settings", "inspect", "open_session", "patch", "patch_many", "plan"]

PATCHED_SUFFIX = "-patched"


def plan(
    request: PatchRequest,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    session: Session | None = None,
    graphs: bool = False,
) -> PlanSet:
    """
    Tell what patching an image would change, and why; nothing is changed. `graphs` gives those that would be solved.

    Packages are fetched into the cache, for their scripts decide what is possible. Raises `CopaError`s only.
    """
    location = Location.parse(request.image)
    with _opened(session, settings, progress) as opened:
        reports = _reports(request, opened.progress)
        order = Order(access=opened.access(location), request=request, session=opened, reports=reports)
        return plan_image(order, graphs=graphs)


def patch(
    request: PatchRequest,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    session: Session | None = None,
) -> Outcome:
    """
    Patch an image, prove the result, and publish it where the request says.

    When there is nothing to do, nothing is written and the outcome's `changed` is false. Raises `CopaError`s only;
    after one of them nothing was published.
    """
    with _opened(session, settings, progress) as opened:
        return _patch(request, opened)


def patch_many(
    requests: Iterable[PatchRequest],
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    session: Session | None = None,
) -> Iterator[Outcome]:
    """
    Patch images one after the other with the same clients, caches and solver.

    What goes wrong with one image is its outcome's `failure` and no end. Leaving the iterator early ends the session.
    """
    with _opened(session, settings, progress) as opened:
        for request in requests:
            try:
                yield _patch(request, opened.child(request.image))
            except CopaError as error:
                yield Outcome.failed(request.image, error)


@contextmanager
def _opened(session: Session | None, settings: Settings | None, progress: Progress | None) -> Iterator[Session]:
    """Settings and progress of a session that is given are its own."""
    if session is not None:
        if settings is not None or progress is not None:
            raise UsageError("a session has its own settings and progress")
        yield session
        return
    with open_session(settings or Settings(), progress or Silent()) as opened:
        yield opened


def _patch(request: PatchRequest, session: Session) -> Outcome:
    from copacetic.attest import FORMATS, render

    location = Location.parse(request.image)
    target = select_destination(request, location)
    reports, plans = _reports(request, session.progress), _plans(request)
    access = session.access(location)
    if not target.transport.holds_index:
        access = _one_image(access, request, target.transport.label)
    if request.attach and not target.transport.attaches:
        raise UsageError(f"nothing can be put beside an image in {target.transport.label}")
    passing = [name for name in sorted(request.attach) if not FORMATS[name].attaches]
    if passing:
        raise UsageError(f"the format {passing[0]} tells of one run, and is not put beside an image")
    order = Order(access=access, request=request, session=session, reports=reports, plans=plans)
    with prove_image(order) as result:
        if result.patched:
            return publish_result(result, session.destination(target), render)
        outcome = result.outcome()
    return replace(outcome, documents=render(outcome, request.documents))


def inspect(
    image: str,
    *,
    platforms: Sequence[str] = (),
    settings: Settings | None = None,
    progress: Progress | None = None,
    session: Session | None = None,
) -> Inspection:
    """Tell what is in an image: distribution, packages, and which layer each came with."""
    from copacetic.pipeline.open.inspect import inspect_image

    location = Location.parse(image)
    chosen = [Platform.parse(text) for text in platforms]
    with _opened(session, settings, progress) as opened:
        return inspect_image(opened.access(location), chosen, opened)


def _one_image(access: ImageAccess, request: PatchRequest, where: str) -> ImageAccess:
    """The image for a place that can't hold an index."""
    from copacetic.oci.selection import PlatformSource

    if len(request.platforms) > 1:
        raise UsageError(f"{where} holds one image", hint="choose one --platform, or write an oci: layout")
    platform = Platform.parse(request.platforms[0]) if request.platforms else None
    return ImageAccess(location=access.location, source=PlatformSource(access.source, platform))


def select_destination(request: PatchRequest, location: Location) -> Location:
    """
    Tell where the result goes; the image's own tag is never overwritten unless `tag` says so.

    Raises `UsageError` when the request names no place.
    """
    if request.destination and request.push:
        raise UsageError("--push and --to exclude each other", hint="--to takes a registry's reference too")
    if request.destination:
        target = Location.parse(request.destination)
        if request.tag:
            raise UsageError("--tag and --to exclude each other", hint="write the tag into --to")
        return target
    if not request.push:
        raise UsageError("the patched image has nowhere to go", hint="add --push, or --to oci:DIR:TAG")
    reference = location.reference
    if "/" in request.tag or ":" in request.tag:
        return Location.in_registry(Reference.parse(request.tag))
    if reference is None:
        raise UsageError(f"--push needs a registry, and {location} is in none", hint="give --tag a full reference")
    return Location.in_registry(reference.with_tag(request.tag or _patched_tag(reference)))


def _patched_tag(reference: Reference) -> str:
    return f"{reference.tag}{PATCHED_SUFFIX}" if reference.tag else PATCHED_SUFFIX.lstrip("-")


def _reports(request: PatchRequest, progress: Progress) -> tuple[Report, ...]:
    reports = load_reports(request.reports, report_format=request.report_format)
    return apply_policy(reports, Policy(package_types=request.package_types), progress)


def _plans(request: PatchRequest) -> tuple[Plan, ...]:
    path = request.plan_file
    if path is None:
        return ()
    if request.reports:
        raise UsageError("--plan and --report exclude each other", hint="the plan was made from a report already")
    from copacetic.pipeline.plan.planfile import PLAN_LIMIT, read_plans

    try:
        with path.open("rb") as file:
            data = file.read(PLAN_LIMIT + 1)
    except OSError as error:
        raise PlanFileError(f"can't read the plan {path}: {error.strerror}") from error
    if len(data) > PLAN_LIMIT:
        raise PlanFileError(f"the plan {path} has more than {PLAN_LIMIT} bytes")
    return read_plans(data, where=str(path))
