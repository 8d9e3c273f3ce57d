# SPDX-License-Identifier: Apache-2.0
"""What a proof looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
from msgspec import Struct

from copacetic.inventory import PackageDatabase
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerindex import LayerIndex
from copacetic.pipeline.prove.readback import Checksums
from copacetic.unpack.shipped import Explanation
from copacetic.updates import InstalledPackage, PackageKey, Section

__all__ = ["Evidence", "Part"]


@dataclass(frozen=True)
class Part:
    """An inventory of the image, what is planned for it, and what the result has for it."""

    section: Section
    before: PackageDatabase
    after: PackageDatabase

    @cached_property
    def planned(self) -> frozenset[PackageKey]:
        """The packages that change, as they will be."""
        return frozenset(update.key for update in self.section.updates)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(key.name for key in self.planned)

    @cached_property
    def replaced(self) -> frozenset[PackageKey]:
        """The packages that change, as they were."""
        updates = self.section.updates
        return frozenset(update.installed.key for update in updates if update.installed is not None)

    @cached_property
    def changed(self) -> tuple[InstalledPackage, ...]:
        """What the result has of the planned packages."""
        return tuple(package for package in self.after.packages() if package.key in self.planned)


class Evidence(Struct, frozen=True, kw_only=True):
    """A new layer, as it was read back, between the image and the result."""

    parts: tuple[Part, ...]
    """The distribution's own inventory, and the others of which the plan has a section."""
    before: ImageFilesystem
    after: ImageFilesystem
    index: LayerIndex
    """The new layer's."""
    checksums: Checksums = {}
    """The new layer's files'."""
    digest: Callable[[Iterable[str], str], Mapping[str, str]]
    """Read files of the result, by canonical path, and hash them with an algorithm."""
    unchanged: Mapping[str, bytes | Spooled] = {}
    """What packages ship that the image has already."""
    explanation: Explanation = msgspec.field(default_factory=Explanation)
    shipped: Mapping[str, Mapping[PackageKey, Mapping[str, str]]] = {}
    """The checksums that packages bring, by type, where the image's database keeps none (`Composition.checksums`)."""
