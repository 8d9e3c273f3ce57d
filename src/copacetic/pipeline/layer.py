# SPDX-License-Identifier: Apache-2.0
"""The one new layer of a variant: what determines it, what is known of it when it is made, and its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct, field

from copacetic.budget import Slots
from copacetic.oci import Descriptor, Digest
from copacetic.oci.change import Changes, Spooled
from copacetic.oci.layerstore import KnownLayer
from copacetic.oci.layerwriter import write_layer
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage, PackageKey

__all__ = ["COMPOSITION_VERSION", "ComposedLayer", "LayerRequest", "NewLayer", "Packages", "finish_layer"]

Packages: TypeAlias = Mapping[str, tuple[FetchedPackage, ...]]
"""By type of package, in the order of a plan's sections, each in the order of its updates."""

COMPOSITION_VERSION = 9
"""Part of the key of kept layers: raise it whenever composing gives other bytes for the same input."""


class NewLayer(Struct, frozen=True, kw_only=True):
    """A finished layer on the local disk."""

    path: Path
    descriptor: Descriptor
    diff_id: Digest
    files: int


class ComposedLayer(Struct, frozen=True, kw_only=True):
    """A layer with what the proof and the user want to know about it."""

    layer: NewLayer
    notes: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    """The paths of the image that went into it."""
    unchanged: Mapping[str, bytes | Spooled] = {}
    """What the packages ship and the image has already."""
    explanation: Explanation = field(default_factory=Explanation)
    """What may account for everything in the layer."""
    checksums: Mapping[str, Mapping[PackageKey, Mapping[str, str]]] = {}
    """By type of package; see `Composition.checksums`."""
    proven: KnownLayer | None = None
    """What is in a layer that was made before, from the same packages on an equal base, and proven then."""


class LayerRequest(Struct, frozen=True, kw_only=True):
    """Everything besides the image that determines a layer."""

    packages: Packages
    epoch: int
    compression: str
    media_type: str
    base: tuple[Digest, ...] = ()
    """The image's diff_ids, for a layer that is made by running something; empty where the read set tells."""

    @property
    def key(self) -> str:
        """The digest of all of it."""
        # The order counts: apk installs in it.
        rows = [package.fingerprint for packages in self.packages.values() for package in packages]
        rows += [str(digest) for digest in self.base]
        text = "\n".join([str(COMPOSITION_VERSION), str(self.epoch), self.compression, self.media_type, *rows])
        return hashlib.sha256(text.encode()).hexdigest()


def finish_layer(changes: Changes, request: LayerRequest, scratch: Path, processors: Slots) -> NewLayer:
    """Write changes as a layer file in `scratch`."""
    path = scratch / "layer"
    written = write_layer(changes.entries, path, processors, compression=request.compression)
    return NewLayer(
        path=path,
        descriptor=Descriptor(media_type=request.media_type, digest=written.digest, size=written.size),
        diff_id=written.diff_id,
        files=len(changes.entries),
    )
