# SPDX-License-Identifier: Apache-2.0
"""
From a plan to one layer: unpacked, run by a package manager, or left to a builder. Nothing is proven here.

Nobody outside asks which way it is: `open_ways` gives what follows the seams of `pipeline.job`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property

from copacetic.inventory import PackageDatabase
from copacetic.pipeline.apply.judge import VerdictMemo
from copacetic.pipeline.apply.unpack import UnpackApplier, Unpacking
from copacetic.pipeline.job import Applier, Delegate, Job, Judged, Ways
from copacetic.pipeline.open.image import PlatformImage, SourceImage
from copacetic.repository import Repository
from copacetic.request import PatchRequest, Strategy
from copacetic.session import Session
from copacetic.updates import PlannedUpdate

__all__ = ["begin", "open_ways"]


def begin(
    image: SourceImage, variant: PlatformImage, request: PatchRequest, session: Session
) -> AbstractContextManager[None]:
    """Have the image ready where it is going to be run, when it is clear from the start that it will be."""
    if request.strategy is not Strategy.EXEC or not session.may_run:
        return nullcontext()
    from copacetic.pipeline.apply.send import warm_up

    return warm_up(image, variant, session)


@contextmanager
def open_ways(job: Job) -> Iterator[Ways]:
    """It has to be left before the job's scratch folder is removed."""
    ahead = job.scratch if job.request.strategy is not Strategy.EXEC else None
    with Unpacking(job.opened, job.session.budget.processors, ahead) as unpacking:
        yield _Ways(job, unpacking)


class _Ways:
    """What runs something is imported when it is asked for."""

    def __init__(self, job: Job, unpacking: Unpacking) -> None:
        self._job = job
        self._unpacking = unpacking

    def judge(self, inventory: PackageDatabase, updates: Sequence[PlannedUpdate], repository: Repository) -> Judged:
        memo = VerdictMemo(self._job.opened.fs, self._job.session.cache, self._unpacking)
        return memo.judge(inventory.package_type, updates, repository)

    def of(self, strategy: Strategy) -> Applier:
        return self._execute if strategy is Strategy.EXEC else UnpackApplier(self._job, self._unpacking)

    @cached_property
    def _execute(self) -> Applier:
        from copacetic.pipeline.apply.execute import ExecuteApplier

        return ExecuteApplier(self._job, self._unpacking)

    @cached_property
    def delegate(self) -> Delegate:
        from copacetic.pipeline.apply.delegate import BuilderDelegate

        return BuilderDelegate(self._job)


_: type[Ways] = _Ways
