# SPDX-License-Identifier: Apache-2.0
"""
One layer from a plan's packages, or the one that the same packages already gave on an equal base.

Composing is a pure function of the packages, the epoch, the compression and what it reads of the image. So a layer
is kept together with its read set, and another image in which everything read is the same gets the same layer:
images on one base pay once. A layer that came of running something may depend on all of the image, and is kept for
that image alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import msgspec

from copacetic.cache import Cache
from copacetic.oci import Descriptor, Digest
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pipeline.layer import COMPOSITION_VERSION, ComposedLayer, LayerRequest, NewLayer
from copacetic.pipeline.open.image import layer_store
from copacetic.pipeline.open.memo import Memo
from copacetic.repository.packages import file_digest

__all__ = ["KeptLayers"]


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A layer's description."""

    blob: str
    digest: str
    size: int
    diff_id: str
    files: int
    notes: list[str]


class KeptLayers:
    """Layers that were proven, by what determined them."""

    def __init__(self, cache: Cache) -> None:
        self._memo = Memo(cache, "patches", version=COMPOSITION_VERSION)
        self._blobs = cache.bucket("patch-layers", version=COMPOSITION_VERSION)
        self._layers = layer_store(cache)

    def lock(self, request: LayerRequest) -> AbstractContextManager[None]:
        """Hold a request while its layer is made, so that others wait and take it."""
        return self._memo.lock(request.key)

    def find(self, request: LayerRequest, fs: ImageFilesystem) -> ComposedLayer | None:
        """Return a kept layer whose read set is the same in this image, and whose file is still what it was."""
        for result in self._memo.find(request.key, fs):
            kept = msgspec.msgpack.decode(result, type=_Kept)
            descriptor = Descriptor(media_type=request.media_type, digest=Digest.parse(kept.digest), size=kept.size)
            diff_id = Digest.parse(kept.diff_id)
            path, known = self._blobs.path(kept.blob), self._layers.find(descriptor, diff_id)
            if path is not None and known is not None and file_digest(path) == kept.blob:
                layer = NewLayer(path=path, descriptor=descriptor, diff_id=diff_id, files=kept.files)
                return ComposedLayer(layer=layer, notes=tuple(kept.notes), proven=known)
        return None

    def keep(self, request: LayerRequest, fs: ImageFilesystem, made: ComposedLayer) -> None:
        """Remember a layer that was proven."""
        layer = made.layer
        blob = layer.descriptor.digest.encoded
        with self._blobs.create(blob) as target, layer.path.open("rb") as stored:
            while part := stored.read(1 << 20):
                target.write(part)
        assert made.proven is not None
        self._layers.remember(layer.descriptor, made.proven)
        kept = _Kept(
            blob=blob,
            digest=str(layer.descriptor.digest),
            size=layer.descriptor.size,
            diff_id=str(layer.diff_id),
            files=layer.files,
            notes=list(made.notes),
        )
        self._memo.keep(request.key, fs, made.reads, msgspec.msgpack.encode(kept))
