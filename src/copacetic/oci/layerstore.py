# SPDX-License-Identifier: Apache-2.0
"""Layer indexes, kept per diff_id: a layer is streamed when nobody has looked into it before, and only then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from copacetic.cache import Bucket, Cache
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerindex import KEEP, LayerIndex, PathSelector, Row, scan_layer
from copacetic.oci.layerstream import extract_files
from copacetic.oci.transport import Source
from copacetic.progress import Progress

INDEX_VERSION = 1


class LayerStore:
    """The indexes of all layers that were ever looked into."""

    def __init__(self, cache: Cache, *, keep: PathSelector = KEEP) -> None:
        self._bucket: Bucket = cache.bucket("layers", version=INDEX_VERSION)
        self._keep = keep

    def open(
        self,
        source: Source,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        *,
        jobs: int,
        progress: Progress,
    ) -> LayeredFilesystem:
        """
        Stack the layers of an image, scanning side by side those without an index.

        Raises `IntegrityError`, `CorruptLayerError` or `HostileLayerError` for a layer that is not what it should be.
        """
        pairs = list(zip(layers, diff_ids, strict=True))
        unique = {diff_id: layer for layer, diff_id in pairs}
        found = {diff_id: self._find(diff_id) for diff_id in unique}
        missing = [diff_id for diff_id, index in found.items() if index is None]
        if missing:
            with ThreadPoolExecutor(max(1, min(jobs, len(missing)))) as pool:
                work = [pool.submit(self._scan, source, unique[d], d, progress) for d in missing]
                for diff_id, future in zip(missing, work, strict=True):
                    found[diff_id] = future.result()
        indexes = [index for _, diff_id in pairs if (index := found[diff_id]) is not None]
        return LayeredFilesystem(indexes, _Loader(source, [layer for layer, _ in pairs]))

    def _key(self, diff_id: Digest) -> str:
        return f"{diff_id.encoded}-{self._keep.fingerprint}"

    def _find(self, diff_id: Digest) -> LayerIndex | None:
        data = self._bucket.read(self._key(diff_id))
        if data is None:
            return None
        try:
            index = msgspec.msgpack.decode(data, type=LayerIndex)
        except msgspec.DecodeError:
            return None
        return index if index.diff_id == str(diff_id) else None

    def _scan(self, source: Source, layer: Descriptor, diff_id: Digest, progress: Progress) -> LayerIndex:
        with self._bucket.lock(self._key(diff_id)):
            index = self._find(diff_id)
            if index is not None:
                return index
            label = f"read layer {diff_id.encoded[:12]}"
            with progress.task(label, total=layer.size) as task, source.open_blob(layer) as stream:
                index = scan_layer(stream, layer, diff_id, keep=self._keep, advance=task.advance)
            self._bucket.write(self._key(diff_id), msgspec.msgpack.encode(index))
            return index


class _Loader:
    """Reads files that no index kept by streaming their layer again."""

    def __init__(self, source: Source, layers: Sequence[Descriptor]) -> None:
        self._source = source
        self._layers = layers

    def __call__(self, position: int, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[memoryview]]]:
        layer = self._layers[position]
        with self._source.open_blob(layer) as stream:
            yield from extract_files(stream, layer, None, rows)
