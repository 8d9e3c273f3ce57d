# SPDX-License-Identifier: Apache-2.0
"""What a proof looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from copacetic.inventory import PackageDatabase
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerindex import LayerIndex
from copacetic.pipeline.prove.readback import Checksums
from copacetic.unpack.shipped import Explanation
from copacetic.updates import PackageKey, Plan

__all__ = ["Evidence", "Side"]


@dataclass(frozen=True, slots=True)
class Side:
    """An image and its package database."""

    fs: ImageFilesystem
    database: PackageDatabase


def _nothing_to_read(paths: Iterable[str], _algorithm: str) -> Mapping[str, str]:
    return dict.fromkeys(paths, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A new layer, as it was read back, between the image and the result."""

    plan: Plan
    before: Side
    after: Side
    index: LayerIndex
    """The new layer's."""
    checksums: Checksums = field(default_factory=dict)
    """The new layer's files'."""
    digest: Callable[[Iterable[str], str], Mapping[str, str]] = _nothing_to_read
    """Read files of the result, by canonical path, and hash them with an algorithm."""
    unchanged: Mapping[str, bytes | Spooled] = field(default_factory=dict)
    """What packages ship that the image has already."""
    explanation: Explanation = field(default_factory=Explanation)
    shipped: Mapping[PackageKey, Mapping[str, str]] = field(default_factory=dict)
    """The checksums that packages bring where the image's database keeps none (`Composition.checksums`)."""
