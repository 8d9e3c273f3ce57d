# SPDX-License-Identifier: Apache-2.0
"""
One layer from a plan's packages, or the one that the same packages already gave on an equal base.

Composing is a pure function of the packages, the epoch, the compression and what it reads of the image. So a layer
is kept together with its read set, and another image in which everything read is the same gets the same layer:
images on one base pay once. A layer that came of running something may depend on all of the image, and is kept for
that image alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from copacetic.cache import Cache
from copacetic.oci import Descriptor, Digest
from copacetic.oci.change import Changes, Spooled
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerwriter import write_layer
from copacetic.pipeline.open.memo import Memo
from copacetic.pipeline.plan.judge import package_key
from copacetic.unpack.shipped import Explanation
from copacetic.updates import FetchedPackage

COMPOSITION_VERSION = 5
"""Part of the key of kept layers: raise it whenever composing gives other bytes for the same input."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A layer's description."""

    blob: str
    digest: str
    size: int
    diff_id: str
    files: int
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayer:
    """A finished layer on the local disk."""

    path: Path
    descriptor: Descriptor
    diff_id: Digest
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedLayer:
    """A layer with what the user wants to know about it."""

    layer: NewLayer
    notes: tuple[str, ...]
    reads: frozenset[str] = frozenset()
    """The paths of the image that went into it."""
    unchanged: Mapping[str, bytes | Spooled] = field(default_factory=dict)
    """What the packages ship and the image has already."""
    explanation: Explanation = field(default_factory=Explanation)
    """What may account for everything in the layer."""
    checksums: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """See `Composition.checksums`."""
    reused: bool = False
    """Made before, from the same packages on an equal base, and proven then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRequest:
    """Everything besides the image that determines a layer."""

    packages: tuple[FetchedPackage, ...]
    epoch: int
    compression: str
    media_type: str
    base: tuple[Digest, ...] = ()
    """The image's diff_ids, for a layer that is made by running something; empty where the read set tells."""

    @property
    def key(self) -> str:
        """The digest of all of it."""
        rows = [package_key(package) for package in self.packages]  # the order counts: apk installs in it
        rows += [str(digest) for digest in self.base]
        text = "\n".join([str(COMPOSITION_VERSION), str(self.epoch), self.compression, self.media_type, *rows])
        return hashlib.sha256(text.encode()).hexdigest()


def finish_layer(changes: Changes, request: LayerRequest, scratch: Path) -> NewLayer:
    """Write changes as a layer file in `scratch`."""
    path = scratch / "layer"
    written = write_layer(changes.entries, path, compression=request.compression)
    return NewLayer(
        path=path,
        descriptor=Descriptor(media_type=request.media_type, digest=written.digest, size=written.size),
        diff_id=written.diff_id,
        files=len(changes.entries),
    )


class KeptLayers:
    """Layers that were proven, by what determined them."""

    def __init__(self, cache: Cache) -> None:
        self._memo = Memo(cache, "patches", version=COMPOSITION_VERSION)
        self._blobs = cache.bucket("patch-layers", version=COMPOSITION_VERSION)

    def lock(self, request: LayerRequest) -> AbstractContextManager[None]:
        """Hold a request while its layer is made, so that others wait and take it."""
        return self._memo.lock(request.key)

    def find(self, request: LayerRequest, fs: ImageFilesystem) -> ComposedLayer | None:
        """Return a kept layer whose read set is the same in this image."""
        for result in self._memo.find(request.key, fs):
            kept = msgspec.msgpack.decode(result, type=_Kept)
            path = self._blobs.path(kept.blob)
            if path is not None:
                layer = NewLayer(
                    path=path,
                    descriptor=Descriptor(
                        media_type=request.media_type, digest=Digest.parse(kept.digest), size=kept.size
                    ),
                    diff_id=Digest.parse(kept.diff_id),
                    files=kept.files,
                )
                return ComposedLayer(layer=layer, notes=tuple(kept.notes), reused=True)
        return None

    def keep(self, request: LayerRequest, fs: ImageFilesystem, made: ComposedLayer) -> None:
        """Remember a layer that passed verification."""
        layer = made.layer
        blob = layer.descriptor.digest.encoded
        with self._blobs.create(blob) as target, layer.path.open("rb") as stored:
            while part := stored.read(1 << 20):
                target.write(part)
        kept = _Kept(
            blob=blob,
            digest=str(layer.descriptor.digest),
            size=layer.descriptor.size,
            diff_id=str(layer.diff_id),
            files=layer.files,
            notes=list(made.notes),
        )
        self._memo.keep(request.key, fs, made.reads, msgspec.msgpack.encode(kept))
