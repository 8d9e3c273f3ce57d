# SPDX-License-Identifier: Apache-2.0
"""
The image's own package manager runs, in a builder or in the local worker.

What comes back is a layer of whatever the run changed; `capture` makes of it what belongs into the image. The base
is never moved: its layers go from the source to the destination as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from copacetic import llb
from copacetic.budget import give_up
from copacetic.errors import (
    BuilderUnreachableError,
    ExecutionError,
    SolverError,
    UnsupportedBuilderError,
    UnsupportedImageError,
)
from copacetic.llb.definition import Definition
from copacetic.llb.solver import Capabilities, ExportedLayer, Inputs
from copacetic.oci import Digest, Platform
from copacetic.oci.transport import Source
from copacetic.pipeline.apply.capture import capture_changes
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pipeline.apply.send import image_state, stage
from copacetic.pipeline.apply.solvelog import SolveLog
from copacetic.pipeline.apply.unpack import Unpacking
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, finish_layer
from copacetic.pipeline.open.image import load_image
from copacetic.pkgmgr import PackageManager, Recipe, open_package_manager
from copacetic.unpack import open_unpacker
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage

__all__ = ["ExecuteApplier", "RecipeMaker", "run_recipe"]

RecipeMaker: TypeAlias = Callable[[llb.State, llb.State | None], Recipe]
"""Called with the image, and with the tooling image where one is needed."""


class ExecuteApplier:
    """Runs the image's package manager through a solver."""

    def __init__(self, job: Job, unpacking: Unpacking) -> None:
        self._job = job
        self._unpacking = unpacking

    @property
    def base(self) -> tuple[Digest, ...]:
        """A run may depend on anything."""
        return self._job.opened.variant.config.diff_ids

    def check(self) -> None:
        """See `Applier.check`."""
        self._manager()

    def why_not(self) -> str:
        """See `Applier.why_not`."""
        if not self._job.session.may_run:
            return "nothing may be run"
        try:
            if not self._manager().runs_scripts:
                return "the image has no shell"
            _check_capabilities(self._job.session.open_solver().capabilities(), self._job.opened.variant.platform)
        except (SolverError, UnsupportedImageError) as error:
            return str(error)
        return ""

    def describe(self, packages: Sequence[FetchedPackage]) -> Definition | None:
        """See `Applier.describe`."""
        if not packages or not self._job.session.may_run:
            return None
        recipe, _ = _build(self._installation(packages), self._job, _pull_name(self._job))
        return llb.diff(recipe.base, recipe.result).marshal(self._job.opened.variant.platform)

    def make(self, request: LayerRequest) -> ComposedLayer:
        """See `Applier.make`. Raises `UnsupportedImageError` for an image that can't run its package manager."""
        job, opened = self._job, self._job.opened
        assert job.scratch is not None
        if not job.session.may_run:
            raise UnsupportedImageError("the plan is to run the image's own programs, and nothing here may do that")
        self._unpacking.close()
        processors, scratch = job.session.budget.processors, job.scratch
        unpacker = open_unpacker(opened.fs, opened.database, processors)
        said = processors.submit(unpacker.shipped, request.packages)  # read while they are installed
        try:
            recipe, layers = run_recipe(self._installation(request.packages), job)
            packages = said.result()
        finally:
            give_up([said])
        folder = scratch / "shipped"
        folder.mkdir()
        shipped = Shipped(
            opened.fs, opened.database, partial(unpacker.place, packages=request.packages, scratch=folder)
        )
        changes = capture_changes(layers, opened.fs, recipe, epoch=request.epoch, shipped=shipped).finish()
        return ComposedLayer(
            layer=finish_layer(changes, request, scratch, processors),
            notes=recipe.notes,
            unchanged=changes.unchanged,
            explanation=Explanation(packages=packages, effects=None if recipe.runs_scripts else {}),
        )

    def _manager(self) -> PackageManager:
        return open_package_manager(self._job.opened.fs, self._job.opened.database)

    def _installation(self, packages: Sequence[FetchedPackage]) -> RecipeMaker:
        def make(base: llb.State, tooling: llb.State | None) -> Recipe:
            return self._manager().install(base, packages, tooling=tooling)

        return make


def run_recipe(make: RecipeMaker, job: Job) -> tuple[Recipe, tuple[ExportedLayer, ...]]:
    """
    Solve what lies between the recipe's base and its result, into files below the job's scratch folder.

    A builder that can't fetch the image itself gets it from us.
    """
    solver = job.session.open_solver()
    capabilities = solver.capabilities()
    _check_capabilities(capabilities, job.opened.variant.platform)
    ways = dict.fromkeys((_pull_name(job), ""))
    for number, pull_name in enumerate(ways):
        recipe, images = _build(make, job, pull_name)
        try:
            return recipe, _solve(recipe, images, job, number)
        except ExecutionError as error:
            text = recipe.with_names(str(error))
            if text == str(error):
                raise
            raise ExecutionError(text, hint=error.hint) from error
        except (BuilderUnreachableError, UnsupportedBuilderError):
            raise
        except SolverError as error:
            if pull_name == "":
                raise
            job.session.progress.note(f"{capabilities.name} can't fetch {pull_name} itself, so it is sent: {error}")
    raise AssertionError  # pragma: no cover - the last way returns or raises


def _solve(recipe: Recipe, images: Mapping[str, Source], job: Job, number: int) -> tuple[ExportedLayer, ...]:
    assert job.scratch is not None
    session, solver = job.session, job.session.open_solver()
    folder = job.scratch / f"solve-{number}"
    folder.mkdir()
    inputs = Inputs(
        directories={name: stage(folder / name, files) for name, files in recipe.directories.items()},
        images=images,
        credentials=session.find_login,
    )
    exported = folder / "layers"
    exported.mkdir()
    definition = llb.diff(recipe.base, recipe.result).marshal(job.opened.variant.platform)
    watched = session.progress.task(f"solve with {solver.capabilities().name}")
    with watched, SolveLog(session.progress) as log:
        return solver.export(definition, inputs, log, folder=exported)


def _pull_name(job: Job) -> str:
    return job.session.pull_name(job.opened.image.access.location)


def _check_capabilities(capabilities: Capabilities, platform: Platform) -> None:
    if not capabilities.merge_diff:
        raise UnsupportedBuilderError(f"{capabilities.name} can't tell what a run has changed: {capabilities.reason}")
    if capabilities.platforms and not any(platform.matches(one) for one in capabilities.platforms):
        there = ", ".join(str(one) for one in capabilities.platforms)
        hint = "emulation (binfmt_misc with qemu) adds platforms; --strategy unpack needs none"
        raise UnsupportedBuilderError(f"{capabilities.name} can't run {platform}: it has {there}", hint=hint)


def _build(make: RecipeMaker, job: Job, pull_name: str) -> tuple[Recipe, Mapping[str, Source]]:
    """Make the recipe, and tell which images it names and where their bytes are."""
    opened, session = job.opened, job.session
    base, images = image_state(opened.image.source, opened.variant.digest, pull_name=pull_name, store="image")
    tooling = None
    manager = open_package_manager(opened.fs, opened.database)
    if manager.needs_tooling:
        access = session.open_tooling(manager.tooling_image)
        (variant,) = load_image(access, [opened.variant.platform]).variants
        name = session.pull_name(access.location)
        tooling, more = image_state(access.source, variant.digest, pull_name=name, store="tooling")
        images |= more
    return make(base, tooling), images
