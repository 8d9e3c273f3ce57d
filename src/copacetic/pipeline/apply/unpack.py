# SPDX-License-Identifier: Apache-2.0
"""The embedded engine: nothing of the image is run, and composing asks nothing again that judging has found out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from copacetic.budget import Slots
from copacetic.errors import ImageError
from copacetic.inventory import detect_database
from copacetic.oci import Digest
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.recording import RecordingFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, finish_layer
from copacetic.unpack import Unpacker, open_unpacker
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage

__all__ = ["UnpackApplier", "Unpacking"]


class Unpacking:
    """
    Opens the unpacker when it is first needed, and records what it reads.

    Without a scratch folder nothing is spooled ahead. It has to be left before that folder is removed.
    """

    def __init__(self, fs: ImageFilesystem, processors: Slots, scratch: Path | None = None) -> None:
        self.fs = RecordingFilesystem(fs)
        self._processors = processors
        self._scratch = scratch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was spooled for nothing."""
        if "unpacker" in self.__dict__:
            self.unpacker.close()

    @cached_property
    def unpacker(self) -> Unpacker:
        """Raises `ImageError` for an image without a package database."""
        database = detect_database(self.fs)
        if database is None:
            raise ImageError("the package database is gone")
        return open_unpacker(self.fs, database, self._processors)

    def spool(self, packages: Sequence[FetchedPackage]) -> None:
        """Begin to decompress packages that are probably going to be composed."""
        if self._scratch is not None:
            self.unpacker.spool(packages, self._scratch)


class UnpackApplier:
    """Composes a layer straight from the packages."""

    base: tuple[Digest, ...] = ()

    def __init__(self, job: Job, unpacking: Unpacking) -> None:
        self._job = job
        self._unpacking = unpacking

    def check(self) -> None:
        """It has a use for every image whose packages can be planned."""

    def why_not(self) -> str:
        return ""

    def describe(self, packages: Sequence[FetchedPackage]) -> None:
        """Nothing is solved."""

    def make(self, request: LayerRequest) -> ComposedLayer:
        """See `Applier.make`."""
        scratch = self._job.scratch
        assert scratch is not None
        unpacking = self._unpacking
        tree = TreeBuilder(unpacking.fs)
        composition = unpacking.unpacker.compose(tree, request.packages, epoch=request.epoch, scratch=scratch)
        changes = tree.finish()
        return ComposedLayer(
            layer=finish_layer(changes, request, scratch, self._job.session.budget.processors),
            notes=composition.notes,
            reads=unpacking.fs.reads(),
            unchanged=changes.unchanged,
            explanation=Explanation(packages=composition.packages, effects=changes.effects),
            checksums=composition.checksums,
        )
