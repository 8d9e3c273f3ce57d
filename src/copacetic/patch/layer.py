# SPDX-License-Identifier: Apache-2.0
"""
One layer from a plan's packages, or the one that the same packages already gave on an equal base.

Composing is a pure function of the packages, the epoch, the compression and what it reads of the image. So a layer
is kept together with its read set, and another image in which everything read is the same gets the same layer:
images on one base pay once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from copacetic.cache import Bucket, Cache
from copacetic.errors import ImageError
from copacetic.inventory import detect_database
from copacetic.oci import Descriptor, Digest
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layered import RecordingFilesystem, state_of
from copacetic.oci.layerwriter import write_layer
from copacetic.unpack import FetchedPackage, open_unpacker

COMPOSITION_VERSION = 2
"""Part of the key of kept layers: raise it whenever composing gives other bytes for the same input."""

MAX_VARIANTS = 8
"""Layers kept for one set of packages, one for each different base."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A layer's description, and what was read to make it."""

    blob: str
    digest: str
    size: int
    diff_id: str
    files: int
    notes: list[str]
    reads: list[str]
    state: str


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
    reused: bool = False
    """Made before, from the same packages on an equal base, and proven then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRequest:
    """Everything besides the image that determines a layer."""

    packages: tuple[FetchedPackage, ...]
    epoch: int
    compression: str
    media_type: str

    @property
    def key(self) -> str:
        """The digest of all of it."""
        rows = [
            f"{p.update.candidate.name} {p.update.candidate.architecture} {p.update.candidate.sha256}"
            for p in self.packages  # in their order, which is that of installing
        ]
        text = "\n".join([str(COMPOSITION_VERSION), str(self.epoch), self.compression, self.media_type, *rows])
        return hashlib.sha256(text.encode()).hexdigest()


class LayerMaker:
    """Makes layers, and keeps those that were proven."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._kept = cache.bucket("patches", version=COMPOSITION_VERSION)
        self._blobs = cache.bucket("patch-layers", version=COMPOSITION_VERSION)

    @property
    def kept(self) -> Bucket:
        """Where to hold a lock while a layer is made, so that others wait and take it."""
        return self._kept

    def find(self, request: LayerRequest, fs: ImageFilesystem) -> ComposedLayer | None:
        """Return a kept layer whose read set is the same in this image."""
        for kept in self._variants(request.key):
            path = self._blobs.path(kept.blob)
            if path is not None and _state(fs, kept.reads) == kept.state:
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

    def make(self, request: LayerRequest, fs: ImageFilesystem, scratch: Path) -> ComposedLayer:
        """Compose and write the layer into `scratch`."""
        recorder = RecordingFilesystem(fs)
        database = detect_database(recorder)
        if database is None:
            raise ImageError("the package database is gone")
        composition = open_unpacker(recorder, database).compose(request.packages, epoch=request.epoch, scratch=scratch)
        path = scratch / "layer"
        written = write_layer(composition.changes.entries, path, compression=request.compression)
        layer = NewLayer(
            path=path,
            descriptor=Descriptor(media_type=request.media_type, digest=written.digest, size=written.size),
            diff_id=written.diff_id,
            files=len(composition.changes.entries),
        )
        return ComposedLayer(
            layer=layer,
            notes=composition.notes,
            reads=recorder.reads(),
            unchanged=composition.changes.unchanged,
        )

    def keep(self, request: LayerRequest, fs: ImageFilesystem, made: ComposedLayer) -> None:
        """Remember a layer that passed verification."""
        layer = made.layer
        blob = layer.descriptor.digest.encoded
        with self._blobs.create(blob) as target, layer.path.open("rb") as stored:
            while part := stored.read(1 << 20):
                target.write(part)
        ordered = sorted(made.reads)
        kept = _Kept(
            blob=blob,
            digest=str(layer.descriptor.digest),
            size=layer.descriptor.size,
            diff_id=str(layer.diff_id),
            files=layer.files,
            notes=list(made.notes),
            reads=ordered,
            state=_state(fs, ordered),
        )
        variants = [kept, *self._variants(request.key)][:MAX_VARIANTS]
        self._kept.write(request.key, msgspec.msgpack.encode(variants))

    def _variants(self, key: str) -> list[_Kept]:
        data = self._kept.read(key)
        try:
            return msgspec.msgpack.decode(data, type=list[_Kept]) if data else []
        except msgspec.DecodeError:
            return []


def _state(fs: ImageFilesystem, paths: Sequence[str]) -> str:
    """Digest what an image has at these paths."""
    state = hashlib.sha256()
    for path in paths:
        state.update(state_of(fs, path))
    return state.hexdigest()
