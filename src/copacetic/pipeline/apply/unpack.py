# SPDX-License-Identifier: Apache-2.0
"""The embedded engine: nothing of the image is run, and composing asks nothing again that judging has found out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from copacetic.budget import Slots
from copacetic.errors import CopaError, ImageError
from copacetic.inventory import find_again
from copacetic.oci import Digest
from copacetic.oci.recording import RecordingFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.pipeline.job import Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, Packages, finish_layer
from copacetic.pipeline.open.image import OpenedImage
from copacetic.unpack import Unpacker, open_unpacker
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage

__all__ = ["UnpackApplier", "Unpacking", "folder_for"]


class Unpacking:
    """
    Opens unpackers when they are first needed, and records what they read.

    Without a scratch folder nothing is spooled ahead. It has to be left before that folder is removed.
    """

    def __init__(self, opened: OpenedImage, processors: Slots, scratch: Path | None = None) -> None:
        self.fs = RecordingFilesystem(opened.fs)
        self._opened = opened
        self._processors = processors
        self._scratch = scratch
        self._unpackers: dict[str, Unpacker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was spooled for nothing."""
        for unpacker in self._unpackers.values():
            unpacker.close()

    def unpacker(self, package_type: str) -> Unpacker:
        """Return the one for a type of package that the image has."""
        if package_type not in self._unpackers:
            database = find_again(self._opened.inventory(package_type), self.fs)
            if database is None:
                raise ImageError("the package database is gone")
            self._unpackers[package_type] = open_unpacker(self.fs, database, self._processors)
        return self._unpackers[package_type]

    def spool(self, package_type: str, packages: Sequence[FetchedPackage]) -> None:
        """Begin to decompress packages that are probably going to be composed."""
        if self._scratch is not None:
            self.unpacker(package_type).spool(packages, folder_for(package_type, self._scratch))

    def spool_early(self, package_type: str, package: FetchedPackage) -> None:
        """The same for one of them, while others are on their way; what is wrong with it is said later."""
        with suppress(CopaError):
            self.spool(package_type, [package])


class UnpackApplier:
    """Composes a layer straight from the packages."""

    base: tuple[Digest, ...] = ()

    def __init__(self, job: Job, unpacking: Unpacking) -> None:
        self._job = job
        self._unpacking = unpacking

    def check(self) -> None:
        """It has a use for every image whose packages can be planned."""

    def why_not(self, _package_types: Collection[str]) -> str:
        return ""

    def describe(self, _packages: Packages) -> None:
        """Nothing is solved."""

    def make(self, request: LayerRequest) -> ComposedLayer:
        """See `Applier.make`."""
        scratch, unpacking = self._job.scratch, self._unpacking
        assert scratch is not None
        tree = TreeBuilder(unpacking.fs)
        made = {
            package_type: unpacking.unpacker(package_type).compose(
                tree, packages, epoch=request.epoch, scratch=folder_for(package_type, scratch)
            )
            for package_type, packages in request.packages.items()
        }
        changes = tree.finish()
        return ComposedLayer(
            layer=finish_layer(changes, request, scratch, self._job.session.budget.processors),
            notes=tuple(note for composition in made.values() for note in composition.notes),
            reads=unpacking.fs.reads(),
            unchanged=changes.unchanged,
            explanation=Explanation(
                packages={package_type: composition.packages for package_type, composition in made.items()},
                effects=changes.effects,
            ),
            checksums={package_type: composition.checksums for package_type, composition in made.items()},
        )


def folder_for(package_type: str, scratch: Path) -> Path:
    """Return a folder of its own for each type of package: unpackers name their files alike."""
    folder = scratch / package_type
    folder.mkdir(parents=True, exist_ok=True)
    return folder
