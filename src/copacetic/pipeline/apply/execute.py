# SPDX-License-Identifier: Apache-2.0
"""
The image's own package manager runs, in a builder or in the local worker.

What comes back is a layer of whatever the run changed; `capture` makes of it what belongs into the image. The base
is never moved: its layers go from the source to the destination as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path

from msgspec import Struct

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
from copacetic.oci.tree import TreeBuilder
from copacetic.pipeline.apply.capture import capture_changes
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pipeline.apply.send import image_state, stage
from copacetic.pipeline.apply.solvelog import SolveLog
from copacetic.pipeline.apply.unpack import Unpacking, folder_for
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, Packages, finish_layer
from copacetic.pipeline.open.image import load_image
from copacetic.pkgmgr import PackageManager, Recipe, open_package_manager
from copacetic.unpack import open_unpacker
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage

__all__ = ["ExecuteApplier", "RecipeStep", "run_steps"]


class RecipeStep(Struct, frozen=True):
    """What one package manager does, after those of other steps."""

    manager: PackageManager
    make: Callable[[llb.State, llb.State | None], Recipe]
    """Called with the image as earlier steps have left it, and with the tooling image where one is needed."""


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
        self._manager(self._job.opened.own.package_type)

    def why_not(self, package_types: Collection[str]) -> str:
        """See `Applier.why_not`."""
        if not self._job.session.may_run:
            return "nothing may be run"
        try:
            if not all(self._manager(package_type).runs_scripts for package_type in package_types):
                return "the image has no shell"
            _check_capabilities(self._job.session.open_solver().capabilities(), self._job.opened.variant.platform)
        except (SolverError, UnsupportedImageError) as error:
            return str(error)
        return ""

    def describe(self, packages: Packages) -> Definition | None:
        """See `Applier.describe`."""
        if not packages or not self._job.session.may_run:
            return None
        recipe, _ = _build(self._steps(packages), self._job, _pull_name(self._job))
        return llb.diff(recipe.base, recipe.result).marshal(self._job.opened.variant.platform)

    def make(self, request: LayerRequest) -> ComposedLayer:
        """See `Applier.make`. Raises `UnsupportedImageError` for an image that can't run its package manager."""
        job, opened = self._job, self._job.opened
        assert job.scratch is not None
        if not job.session.may_run:
            raise UnsupportedImageError("the plan is to run the image's own programs, and nothing here may do that")
        self._unpacking.close()
        processors = job.session.budget.processors
        scratch = Path(tempfile.mkdtemp(prefix="run-", dir=job.scratch))  # there may be another run, of fewer packages
        unpackers = {
            package_type: open_unpacker(opened.fs, opened.inventory(package_type), processors)
            for package_type in request.packages
        }
        said = {  # read while they are installed
            package_type: processors.submit(unpackers[package_type].shipped, packages)
            for package_type, packages in request.packages.items()
        }
        try:
            recipe, layers = run_steps(self._steps(request.packages), job)
            shipped = {package_type: future.result() for package_type, future in said.items()}
        finally:
            give_up(said.values())

        def place(tree: TreeBuilder) -> None:
            for package_type, packages in request.packages.items():
                folder = folder_for(package_type, scratch)
                unpackers[package_type].place(tree, packages, scratch=folder)

        owned = Shipped(opened.fs, [opened.inventory(package_type) for package_type in unpackers], place)
        changes = capture_changes(layers, recipe, owned, epoch=request.epoch).finish()
        return ComposedLayer(
            layer=finish_layer(changes, request, scratch, processors),
            notes=recipe.notes,
            unchanged=changes.unchanged,
            explanation=Explanation(packages=shipped, effects=None if recipe.runs_scripts else changes.effects),
        )

    def _manager(self, package_type: str) -> PackageManager:
        return open_package_manager(self._job.opened.fs, self._job.opened.inventory(package_type))

    def _steps(self, packages: Packages) -> list[RecipeStep]:
        return [self._step(self._manager(package_type), files) for package_type, files in packages.items()]

    def _step(self, manager: PackageManager, packages: Sequence[FetchedPackage]) -> RecipeStep:
        def make(base: llb.State, tooling: llb.State | None) -> Recipe:
            return manager.install(base, packages, tooling=tooling)

        return RecipeStep(manager, make)


def run_steps(steps: Sequence[RecipeStep], job: Job) -> tuple[Recipe, tuple[ExportedLayer, ...]]:
    """
    Solve what lies between the image and the last step's result, into files below the job's scratch folder.

    A builder that can't fetch the image itself gets it from us.
    """
    solver = job.session.open_solver()
    capabilities = solver.capabilities()
    _check_capabilities(capabilities, job.opened.variant.platform)
    ways = dict.fromkeys((_pull_name(job), ""))
    for pull_name in ways:
        recipe, images = _build(steps, job, pull_name)
        try:
            return recipe, _solve(recipe, images, job)
        except ExecutionError as error:
            text = recipe.with_names(str(error))
            if text == str(error):
                raise
            raise error.reworded(text) from error
        except (BuilderUnreachableError, UnsupportedBuilderError):
            raise
        except SolverError as error:
            if pull_name == "":
                raise
            job.session.progress.note(f"{capabilities.name} can't fetch {pull_name} itself, so it is sent: {error}")
    raise AssertionError  # pragma: no cover - the last way returns or raises


def _solve(recipe: Recipe, images: Mapping[str, Source], job: Job) -> tuple[ExportedLayer, ...]:
    assert job.scratch is not None
    session, solver = job.session, job.session.open_solver()
    folder = Path(tempfile.mkdtemp(prefix="solve-", dir=job.scratch))
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


def _build(steps: Sequence[RecipeStep], job: Job, pull_name: str) -> tuple[Recipe, Mapping[str, Source]]:
    """Make the recipe, and tell which images it names and where their bytes are."""
    opened = job.opened
    state, images = image_state(opened.image.source, opened.variant.digest, pull_name=pull_name, store="image")
    recipes: list[Recipe] = []
    for number, step in enumerate(steps):
        tooling = None
        if step.manager.needs_tooling:
            tooling, more = _open_tooling(step.manager, job, f"tooling-{number}" if number else "tooling")
            images = {**images, **more}
        recipes.append(step.make(state, tooling))
        state = recipes[-1].result
    return reduce(Recipe.then, recipes), images


def _open_tooling(manager: PackageManager, job: Job, store: str) -> tuple[llb.State, Mapping[str, Source]]:
    session = job.session
    access = session.open_tooling(manager.tooling_image)
    (variant,) = load_image(access, [job.opened.variant.platform]).variants
    return image_state(access.source, variant.digest, pull_name=session.pull_name(access.location), store=store)
