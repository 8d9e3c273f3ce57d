# SPDX-License-Identifier: Apache-2.0
"""
The other way to apply a plan: the image's own package manager runs, in a builder or in the local worker.

What comes back is a layer of whatever the run changed; `capture` makes of it what belongs into the image. The base
is never moved: its layers go from the source to the destination as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from copacetic import llb
from copacetic.errors import (
    BuilderUnreachableError,
    ExecutionError,
    SolverError,
    StorageError,
    UnsupportedBuilderError,
    UnsupportedImageError,
)
from copacetic.llb.definition import Definition
from copacetic.llb.graph import SourceOp
from copacetic.llb.solver import Capabilities, ExportedLayer, Inputs
from copacetic.oci import Digest, Platform
from copacetic.oci.layerwriter import read_content
from copacetic.oci.transport import Source
from copacetic.pipeline.apply.capture import capture_changes
from copacetic.pipeline.apply.kept import ComposedLayer, LayerRequest, finish_layer
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pipeline.apply.solvelog import SolveLog
from copacetic.pipeline.environment import Environment, Execution, ImageAccess
from copacetic.pipeline.open.image import OpenedImage, SourceImage, load_image
from copacetic.pkgmgr import Content, Recipe, open_package_manager
from copacetic.unpack import open_unpacker
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage

__all__ = ["ExecApplier", "RecipeMaker", "describe_run", "image_state", "run_recipe", "stage", "why_not"]

RecipeMaker: TypeAlias = Callable[[llb.State, llb.State | None], Recipe]
"""Called with the image, and with the tooling image where one is needed."""

_SENT = "copacetic.invalid/image"
"""How a builder's messages call an image that it gets from us; a host is required."""


class ExecApplier:
    """Runs the image's package manager through a solver."""

    def __init__(self, image: SourceImage, environment: Environment, execution: Execution) -> None:
        self._image = image
        self._environment = environment
        self._execution = execution

    def make(self, request: LayerRequest, opened: OpenedImage, scratch: Path) -> ComposedLayer:
        """Raises `SolverError`s, and `UnsupportedImageError` for an image that can't run its package manager."""
        make = _installation(opened, request.packages)
        with ThreadPoolExecutor(1) as beside:  # what the packages say is read while they are installed
            said = beside.submit(open_unpacker(opened.fs, opened.database).shipped, request.packages)
            recipe, layers = run_recipe(make, self._image, opened, self._environment, self._execution, scratch)
            packages = said.result()
        shipped = Shipped(opened.fs, opened.database, request.packages, scratch / "shipped")
        changes = capture_changes(layers, opened.fs, recipe, epoch=request.epoch, shipped=shipped)
        layer = finish_layer(changes, request, scratch)
        return ComposedLayer(
            layer=layer,
            notes=recipe.notes,
            unchanged=changes.unchanged,
            explanation=Explanation(packages=packages, effects=None if recipe.runs_scripts else {}),
        )


def why_not(opened: OpenedImage, execution: Execution | None) -> str:
    """Tell why nothing of an image can be run, in one line; empty when it can."""
    if execution is None:
        return "nothing may be run"
    try:
        if not open_package_manager(opened.fs, opened.database).runs_scripts:
            return "the image has no shell"
        _check_capabilities(execution.open_solver().capabilities(), opened.image.platform)
    except (SolverError, UnsupportedImageError) as error:
        return str(error)
    return ""


def describe_run(
    opened: OpenedImage, packages: Sequence[FetchedPackage], image: SourceImage, execution: Execution
) -> Definition:
    """Return the graph that would be solved; no solver is asked."""
    access = ImageAccess(source=image.source, pull_name=execution.pull_name)
    recipe, _ = _build(_installation(opened, packages), access, opened, execution)
    return llb.diff(recipe.base, recipe.result).marshal(opened.image.platform)


def run_recipe(
    make: RecipeMaker,
    image: SourceImage,
    opened: OpenedImage,
    environment: Environment,
    execution: Execution,
    scratch: Path,
) -> tuple[Recipe, tuple[ExportedLayer, ...]]:
    """
    Solve what lies between the recipe's base and its result, into files below `scratch`.

    A builder that can't fetch the image itself gets it from us.
    """
    solver = execution.open_solver()
    capabilities = solver.capabilities()
    _check_capabilities(capabilities, opened.image.platform)
    ways = dict.fromkeys((execution.pull_name, ""))
    for number, pull_name in enumerate(ways):
        folder = scratch / f"solve-{number}"
        folder.mkdir()
        access = ImageAccess(source=image.source, pull_name=pull_name)
        recipe, images = _build(make, access, opened, execution)
        definition = llb.diff(recipe.base, recipe.result).marshal(opened.image.platform)
        inputs = Inputs(
            directories={name: stage(folder / name, files) for name, files in recipe.directories.items()},
            images=images,
            credentials=execution.credentials,
        )
        exported = folder / "layers"
        exported.mkdir()
        try:
            watched = environment.progress.task(f"solve with {capabilities.name}")
            with watched, SolveLog(environment.progress) as log:
                return recipe, solver.export(definition, inputs, log, folder=exported)
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
            environment.progress.note(f"{capabilities.name} can't fetch {pull_name} itself, so it is sent: {error}")
    raise AssertionError  # pragma: no cover - the last way returns or raises


def _installation(opened: OpenedImage, packages: Sequence[FetchedPackage]) -> RecipeMaker:
    def make(base: llb.State, tooling: llb.State | None) -> Recipe:
        manager = open_package_manager(opened.fs, opened.database)
        return manager.install(base, packages, tooling=tooling)

    return make


def _check_capabilities(capabilities: Capabilities, platform: Platform) -> None:
    if not capabilities.merge_diff:
        raise UnsupportedBuilderError(f"{capabilities.name} can't tell what a run has changed: {capabilities.reason}")
    if capabilities.platforms and not any(platform.matches(one) for one in capabilities.platforms):
        there = ", ".join(str(one) for one in capabilities.platforms)
        hint = "emulation (binfmt_misc with qemu) adds platforms; --strategy unpack needs none"
        raise UnsupportedBuilderError(f"{capabilities.name} can't run {platform}: it has {there}", hint=hint)


def _build(
    make: RecipeMaker, access: ImageAccess, opened: OpenedImage, execution: Execution
) -> tuple[Recipe, Mapping[str, Source]]:
    """Make the recipe, and tell which images it names and where their bytes are."""
    images: dict[str, Source] = {}
    base = image_state(access, opened.image.descriptor.digest, "image", images)
    tooling = None
    manager = open_package_manager(opened.fs, opened.database)
    if manager.needs_tooling:
        other = execution.open_tooling(manager.tooling_image)
        (platform,) = load_image(other.source, [opened.image.platform]).platforms
        tooling = image_state(other, platform.descriptor.digest, "tooling", images)
    return make(base, tooling), images


def image_state(access: ImageAccess, digest: Digest, store: str, images: dict[str, Source]) -> llb.State:
    """Name an image by its digest. A solver without a registry client takes a pulled one's bytes from us, too."""
    if access.pull_name:
        reference = f"{access.pull_name}@{digest}"
        images[reference] = access.source
        return _named(llb.image(reference), f"fetch {access.source.name}")
    images[store] = access.source
    return _named(llb.oci_layout(_SENT, digest, store=store), f"send {access.source.name}")


def _named(state: llb.State, name: str) -> llb.State:
    assert isinstance(state.vertex, SourceOp)
    return llb.State(replace(state.vertex, name=name))


def stage(folder: Path, files: Mapping[str, Content]) -> Path:
    """Fill a directory that a builder may read; files of the cache are linked, not copied."""
    try:
        folder.mkdir()
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                _link(content, target)
                continue
            with target.open("xb") as file:
                for piece in (content,) if isinstance(content, bytes) else content:
                    file.write(piece if isinstance(piece, bytes) else read_content(piece))
    except OSError as error:
        raise StorageError(f"can't prepare {folder} for the builder: {error.strerror or error}") from error
    return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
