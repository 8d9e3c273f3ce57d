# SPDX-License-Identifier: Apache-2.0
"""
The road for one image: plan it, or patch it. One flow over a list of variants, which are worked on side by side.

Sources and destinations are given; nothing here knows what they are.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import CopaError, PlanFileError
from copacetic.oci import Digest, Platform
from copacetic.oci.referrers import Document
from copacetic.oci.transport import Destination
from copacetic.pipeline.apply import begin
from copacetic.pipeline.job import Job
from copacetic.pipeline.open.image import PlatformImage, SourceImage, load_image, open_image
from copacetic.pipeline.outcome import Outcome, PlatformOutcome
from copacetic.pipeline.plan.concern import select_reports
from copacetic.pipeline.plan.document import write_plans
from copacetic.pipeline.platform import PatchedPlatform, patch_variant, plan_variant, untouched
from copacetic.request import PatchRequest
from copacetic.session import ImageAccess, Session
from copacetic.updates import Finding, Plan, Report

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition
    from copacetic.pipeline.publish.manifest import PatchedImage

__all__ = ["Order", "PlanSet", "Result", "plan_image", "prove_image", "publish_result"]

_T = TypeVar("_T")
Render: TypeAlias = Callable[[Outcome, Iterable[str]], Mapping[str, Document]]
"""Makes documents of the formats that are named."""


class PlanSet(Struct, frozen=True, kw_only=True):
    """The plans of an image's platforms."""

    plans: tuple[Plan, ...]
    graphs: Mapping[Digest, Definition] = {}
    """What would be solved, by `Plan.image_digest`: when it was asked for, and only of plans that run something."""

    def to_json(self) -> bytes:
        """Return the documented object (docs/reference/json.md), ending in a newline."""
        return write_plans(self.plans)


class Order(Struct, frozen=True, kw_only=True):
    """What is asked of one image."""

    access: ImageAccess
    request: PatchRequest
    session: Session
    reports: tuple[Report, ...] = ()
    plans: tuple[Plan, ...] = ()
    """The stored plans to apply; empty makes new ones."""


class _Run(Struct, frozen=True):
    """An order with the image that it is about."""

    order: Order
    image: SourceImage
    findings: Mapping[Digest, tuple[Finding, ...] | None]
    """By variant: None means every available update, a variant that is absent stays as it is."""
    stored: Mapping[Digest, Plan]

    @classmethod
    def start(cls, order: Order) -> _Run:
        image = load_image(order.access, [Platform.parse(text) for text in order.request.platforms])
        return cls(order, image, _findings(order, image), _stored_plans(order.plans, image))

    def is_concerned(self, variant: PlatformImage) -> bool:
        return variant.digest in self.findings and (not self.order.plans or variant.digest in self.stored)

    def job(self, variant: PlatformImage, scratch: Path | None = None) -> Job:
        session = self.order.session
        return Job(
            opened=open_image(self.image, variant, session),
            request=self.order.request,
            findings=self.findings[variant.digest],
            stored=self.stored.get(variant.digest),
            scratch=scratch,
            session=session,
        )


def plan_image(order: Order, *, graphs: bool = False) -> PlanSet:
    """Plan every chosen platform that is concerned; nothing is changed. `graphs` gives those that would be solved."""
    run = _Run.start(order)

    def one(variant: PlatformImage) -> tuple[Plan, Definition | None]:
        return plan_variant(run.job(variant), graph=graphs)

    concerned = [variant for variant in run.image.variants if run.is_concerned(variant)]
    made = _refuse_failures(_side_by_side(one, concerned, order.session.settings.jobs), concerned)
    return PlanSet(
        plans=tuple(plan for plan, _ in made),
        graphs={plan.image_digest: graph for plan, graph in made if graph is not None},
    )


class Result(Struct, frozen=True, kw_only=True):
    """What is proven, and not published. Its files last as long as the context that gave it."""

    image: SourceImage
    platforms: tuple[PlatformOutcome | PatchedPlatform, ...]
    order: Order
    scratch: Path
    started: float
    """In seconds of `time.monotonic`."""

    @property
    def patched(self) -> Mapping[Digest, PatchedImage]:
        """By the digest of what it replaces; empty when there is nothing to publish."""
        return {one.image.original.digest: one.image for one in self.platforms if isinstance(one, PatchedPlatform)}

    def outcome(self, reference: str = "", digest: Digest | None = None) -> Outcome:
        """Describe it with the name that it has, or is going to have."""
        return Outcome(
            image=self.image.name,
            reference=reference,
            digest=digest,
            platforms=tuple(_outcome(one) if isinstance(one, PatchedPlatform) else one for one in self.platforms),
            seconds=time.monotonic() - self.started,
        )


@contextmanager
def prove_image(order: Order) -> Iterator[Result]:
    """Patch every chosen platform; nothing is published."""
    started = time.monotonic()
    run, session = _Run.start(order), order.session
    with session.cache.scratch() as scratch:

        def one(variant: PlatformImage) -> PlatformOutcome | PatchedPlatform:
            if not run.is_concerned(variant):
                return untouched(variant, None, "no report or plan is about this platform")
            with begin(run.image, variant, order.request, session):
                return patch_variant(run.job(variant, Path(tempfile.mkdtemp(dir=scratch))))

        made = _side_by_side(one, run.image.variants, session.settings.jobs)
        platforms = tuple(_outcomes(made, run.image.variants, tolerant=order.request.ignore_errors))
        yield Result(image=run.image, platforms=platforms, order=order, scratch=scratch, started=started)


def publish_result(result: Result, destination: Destination, render: Render) -> Outcome:
    """Write everything, documents beside it too, and only then give the result its name."""
    from copacetic.pipeline.publish.write import ImageWriter

    session, request = result.order.session, result.order.request
    with destination, session.progress.task(f"write {destination.name}"):
        writer = ImageWriter(result.image.source, destination, session.budget.transfers, result.scratch)
        root, raw = writer.write(result.image, result.patched)
        outcome = result.outcome(f"{destination.name}@{root.digest}", root.digest)
        documents = render(outcome, request.documents | request.attach)
        if request.attach:
            destination.write_manifest(root, raw)
        for name in sorted(request.attach):
            destination.attach(root, documents[name])
        session.progress.publishing(destination.name)
        destination.publish(root, raw)
        session.progress.published(outcome.reference)
    return replace(outcome, documents=documents)


def _findings(order: Order, image: SourceImage) -> Mapping[Digest, tuple[Finding, ...] | None]:
    if not order.reports:
        return {variant.digest: None for variant in image.variants}
    selected = select_reports(order.reports, image, lenient=order.request.ignore_errors)
    return {digest: findings for digest, findings in selected.items() if findings is not None}


def _stored_plans(plans: Sequence[Plan], image: SourceImage) -> Mapping[Digest, Plan]:
    there = {variant.digest for variant in image.variants}
    for plan in plans:
        if plan.image_digest not in there:
            message = f"the plan is for {plan.image_digest} ({plan.platform}), which {image.name} doesn't have"
            raise PlanFileError(message)
    return {plan.image_digest: plan for plan in plans}


def _side_by_side(
    work: Callable[[PlatformImage], _T], variants: Sequence[PlatformImage], jobs: int
) -> list[_T | CopaError]:
    """Run one thread per variant; the failure of one doesn't end the others."""

    def attempt(variant: PlatformImage) -> _T | CopaError:
        try:
            return work(variant)
        except CopaError as error:
            return error

    if len(variants) < 2:
        return [attempt(variant) for variant in variants]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(attempt, variants))


def _refuse_failures(made: Sequence[_T | CopaError], variants: Sequence[PlatformImage]) -> list[_T]:
    """Raise the first failure, in the index's order; it names its platform, and the others that failed."""
    done = [result for result in made if not isinstance(result, CopaError)]
    failed = [(v, e) for v, e in zip(variants, made, strict=True) if isinstance(e, CopaError)]
    if not failed:
        return done
    variant, error = failed[0]
    if len(variants) == 1:
        raise error
    others = ", ".join(str(other.platform) for other, _ in failed[1:])
    more = f" (and {others} failed, too)" if others else ""
    raise error.reworded(f"{variant.platform}: {error}{more}") from error


def _outcomes(
    made: Sequence[PlatformOutcome | PatchedPlatform | CopaError],
    variants: Sequence[PlatformImage],
    *,
    tolerant: bool,
) -> list[PlatformOutcome | PatchedPlatform]:
    """Failures are outcomes of their platforms when the others go on without them: where that is asked for."""
    if not tolerant or all(isinstance(result, CopaError) for result in made):
        return _refuse_failures(made, variants)
    return [
        untouched(variant, None, f"failed, and stays as it is: {result}") if isinstance(result, CopaError) else result
        for variant, result in zip(variants, made, strict=True)
    ]


def _outcome(patched: PatchedPlatform) -> PlatformOutcome:
    image = patched.image
    return PlatformOutcome(
        platform=image.original.platform,
        plan=patched.plan,
        before=image.original.digest,
        after=image.descriptor.digest,
        layer=image.layer.descriptor,
        layer_files=image.layer.files,
        verified=True,
        matched=patched.proof.matched,
        notes=patched.proof.notes,
    )
