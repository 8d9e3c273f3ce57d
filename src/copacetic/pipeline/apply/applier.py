# SPDX-License-Identifier: Apache-2.0
"""The two ways to apply a plan, behind one method: packages in, one composed layer out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from copacetic.errors import UnsupportedImageError
from copacetic.pipeline.apply.kept import ComposedLayer, LayerRequest, finish_layer
from copacetic.pipeline.apply.unpack import Unpacking
from copacetic.pipeline.environment import Environment
from copacetic.pipeline.open.image import OpenedImage, SourceImage
from copacetic.unpack.shipped import Explanation

__all__ = ["Applier", "UnpackApplier", "make_applier"]


class Applier(Protocol):
    """Makes one layer; nothing is written outside `scratch`, and nothing is verified yet."""

    def make(self, request: LayerRequest, opened: OpenedImage, scratch: Path) -> ComposedLayer: ...


class UnpackApplier:
    """The embedded engine: nothing of the image is run."""

    def __init__(self, unpacking: Unpacking) -> None:
        self._unpacking = unpacking

    def make(self, request: LayerRequest, opened: OpenedImage, scratch: Path) -> ComposedLayer:
        """Raises `NeedsExecutionError` for a package that can't be installed this way."""
        composition = self._unpacking.unpacker.compose(request.packages, epoch=request.epoch, scratch=scratch)
        return ComposedLayer(
            layer=finish_layer(composition.changes, request, scratch),
            notes=composition.notes,
            reads=self._unpacking.reads(),
            unchanged=composition.changes.unchanged,
            explanation=Explanation(packages=composition.packages, effects=composition.changes.effects),
            checksums=composition.checksums,
        )


def make_applier(strategy: str, image: SourceImage, environment: Environment, unpacking: Unpacking) -> Applier:
    """Return the way that a plan names. Raises `UnsupportedImageError` where nothing may be run."""
    if strategy != "exec":
        return UnpackApplier(unpacking)
    if environment.execution is None:
        raise UnsupportedImageError("the plan is to run the image's own programs, and nothing here may do that")
    unpacking.close()
    from copacetic.pipeline.apply.execute import ExecApplier

    return ExecApplier(image, environment, environment.execution)
