# SPDX-License-Identifier: Apache-2.0
"""A result's blobs and manifests, written to a destination; what the result doesn't change is copied byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from copacetic.budget import Slots
from copacetic.errors import NotFoundError
from copacetic.oci import Descriptor, Digest, Index, Manifest
from copacetic.oci.manifest import ARTIFACT_MANIFEST, MANIFEST_TYPES, artifact_blobs, is_distributable
from copacetic.oci.transport import Destination, Source
from copacetic.pipeline.open.image import SourceImage
from copacetic.pipeline.publish.manifest import PatchedImage

__all__ = ["ImageWriter"]


class ImageWriter(Struct, frozen=True):
    """From a source to a destination."""

    source: Source
    destination: Destination
    transfers: Slots
    scratch: Path

    def write(self, image: SourceImage, patched: Mapping[Digest, PatchedImage]) -> tuple[Descriptor, bytes]:
        """
        Write everything that the result consists of, and return the manifest or index that is to be published.

        `patched` maps the digests of original manifests to what replaces them. Of an index, all other entries are
        copied as they are.
        """
        for new in patched.values():
            self._write_blobs(new)
        if image.index is None:
            (new,) = patched.values()
            return new.descriptor, new.manifest.raw
        for new in patched.values():
            self.destination.write_manifest(new.descriptor, new.manifest.raw)
        index = self._replace(image.index, patched)
        return _describe(index), index.raw

    def _replace(self, index: Index, patched: Mapping[Digest, PatchedImage]) -> Index:
        """Let the entries point to what replaces them, also those of indexes in this one, and copy all others."""
        made = index
        for entry in index.manifests:
            if entry.digest in patched:
                made = made.replace(entry, patched[entry.digest].descriptor)
            elif Index.is_index(entry.media_type):
                nested = Index.parse(self.source.manifest(entry), entry.media_type)
                new = self._replace(nested, patched)
                self.destination.write_manifest(_describe(new), new.raw)
                if new is not nested:
                    made = made.replace(entry, _describe(new))
            else:
                self._copy_entry(entry)
        return made

    def _write_blobs(self, new: PatchedImage) -> None:
        config = self.scratch / new.manifest.config.digest.encoded
        config.write_bytes(new.config)
        self._copy_blobs(new.original.manifest.layers)
        self.destination.write_blob(new.layer.descriptor, new.layer.path)
        self.destination.write_blob(new.manifest.config, config)

    def _copy_blobs(self, descriptors: Iterable[Descriptor]) -> None:
        unique = {d.digest: d for d in descriptors if is_distributable(d)}
        self.transfers.map(lambda one: self.destination.copy_blob(one, self.source), unique.values())

    def _copy_entry(self, entry: Descriptor) -> None:
        """
        Copy what an entry of an index names.

        A manifest that the source doesn't have isn't missed: the index was sparse before. What is no manifest that
        anybody knows is a blob, or else a document.
        """
        if entry.media_type not in {*MANIFEST_TYPES, ARTIFACT_MANIFEST, ""}:
            try:
                self.destination.copy_blob(entry, self.source)
            except NotFoundError:
                self._copy_document(entry)
            return
        try:
            raw = self.source.manifest(entry)
        except NotFoundError:
            return
        if entry.media_type == ARTIFACT_MANIFEST:
            blobs = artifact_blobs(raw)
        else:
            manifest = Manifest.parse(raw, entry.media_type)
            blobs = (manifest.config, *manifest.layers)
        self._copy_blobs(blobs)
        self.destination.write_manifest(entry, raw)

    def _copy_document(self, entry: Descriptor) -> None:
        try:
            self.destination.write_manifest(entry, self.source.manifest(entry))
        except NotFoundError:
            return


def _describe(index: Index) -> Descriptor:
    return Descriptor(media_type=index.media_type, digest=Digest.of(index.raw), size=len(index.raw))
