# SPDX-License-Identifier: Apache-2.0
"""The two ways to apply a plan, behind one method: packages in, one composed layer out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from copacetic.errors import ImageError, UnsupportedImageError
from copacetic.inventory import detect_database
from copacetic.oci.layered import RecordingFilesystem
from copacetic.patch.environment import Environment
from copacetic.patch.image import OpenedImage, SourceImage
from copacetic.patch.layer import ComposedLayer, LayerRequest, finish_layer
from copacetic.unpack import open_unpacker

__all__ = ["Applier", "UnpackApplier", "make_applier"]


class Applier(Protocol):
    """Makes one layer; nothing is written outside `scratch`, and nothing is verified yet."""

    def make(self, request: LayerRequest, opened: OpenedImage, scratch: Path) -> ComposedLayer: ...


class UnpackApplier:
    """The embedded engine: nothing of the image is run."""

    def make(self, request: LayerRequest, opened: OpenedImage, scratch: Path) -> ComposedLayer:
        """Raises `NeedsExecutionError` for a package that can't be installed this way."""
        recorder = RecordingFilesystem(opened.fs)
        database = detect_database(recorder)
        if database is None:
            raise ImageError("the package database is gone")
        composition = open_unpacker(recorder, database).compose(request.packages, epoch=request.epoch, scratch=scratch)
        return ComposedLayer(
            layer=finish_layer(composition.changes, request, scratch),
            notes=composition.notes,
            reads=recorder.reads(),
            unchanged=composition.changes.unchanged,
        )


def make_applier(strategy: str, image: SourceImage, environment: Environment) -> Applier:
    """Return the way that a plan names. Raises `UnsupportedImageError` where nothing may be run."""
    if strategy != "exec":
        return UnpackApplier()
    if environment.execution is None:
        raise UnsupportedImageError("the plan is to run the image's own programs, and nothing here may do that")
    from copacetic.patch.execution import ExecApplier

    return ExecApplier(image, environment, environment.execution)
