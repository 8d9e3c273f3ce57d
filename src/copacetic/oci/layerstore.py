# SPDX-License-Identifier: Apache-2.0
"""
Layer indexes, kept per blob and diff_id: a layer is streamed when nobody has looked into it before, and only then.

That a blob has the diff_id that an image's config claims is known only of those that were read: another blob under
a known diff_id is a layer that nobody has looked into.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future

import msgspec

from copacetic.budget import Slots, give_up
from copacetic.cache import Bucket, Cache
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerindex import KEEP, LayerIndex, PathSelector, Row, scan_layer
from copacetic.oci.layerstream import LayerBudget, extract_files
from copacetic.oci.transport import Source
from copacetic.progress import Progress

INDEX_VERSION = 2

_Pair = tuple[Descriptor, Digest]


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
        transfers: Slots,
        progress: Progress,
    ) -> LayeredFilesystem:
        """
        Stack the layers of an image, scanning side by side those without an index.

        Raises `IntegrityError`, `CorruptLayerError` or `HostileLayerError` for a layer that is not what it should be.
        """
        pairs = list(zip(layers, diff_ids, strict=True))
        unique = {self._key(pair): pair for pair in pairs}
        found = {key: self._find(pair) for key, pair in unique.items()}
        missing = [key for key, index in found.items() if index is None]
        budget = LayerBudget(known=sum(unique[key][0].size for key, index in found.items() if index is not None))
        work = {key: transfers.submit(self._scan, source, unique[key], budget, progress) for key in missing}
        try:
            indexes = self._collect(pairs, found, work)
        finally:
            give_up(work.values())
        return LayeredFilesystem(indexes, _Loader(source, layers))

    def _collect(
        self, pairs: Sequence[_Pair], found: Mapping[str, LayerIndex | None], work: Mapping[str, Future[LayerIndex]]
    ) -> list[LayerIndex]:
        """Return the layers' indexes; up to each, the lower ones may hold as much as their size allows."""
        indexes: list[LayerIndex] = []
        seen: set[str] = set()
        stored = plain = metadata = 0
        for pair in pairs:
            key = self._key(pair)
            index = found[key] or work[key].result()
            if key not in seen:  # another time it costs no reading, but as much of what a view costs
                seen.add(key)
                stored += pair[0].size
                plain += index.size
            metadata += index.metadata
            LayerBudget.check(stored=stored, plain=plain, metadata=metadata)
            indexes.append(index)
        return indexes

    def _key(self, pair: _Pair) -> str:
        layer, diff_id = pair
        name = f"{layer.digest} {layer.size} {diff_id}"
        return f"{hashlib.sha256(name.encode()).hexdigest()}-{self._keep.fingerprint}"

    def _find(self, pair: _Pair) -> LayerIndex | None:
        data = self._bucket.read(self._key(pair))
        if data is None:
            return None
        try:
            index = msgspec.msgpack.decode(data, type=LayerIndex)
        except msgspec.DecodeError:
            return None
        return index if index.diff_id == str(pair[1]) else None

    def _scan(self, source: Source, pair: _Pair, budget: LayerBudget, progress: Progress) -> LayerIndex:
        key = self._key(pair)
        with self._bucket.lock(key):
            index = self._find(pair)
            if index is not None:
                return index
            layer, diff_id = pair
            label = f"read layer {diff_id.encoded[:12]}"
            with progress.task(label, total=layer.size) as task, source.open_blob(layer) as stream:
                index = scan_layer(stream, layer, diff_id, keep=self._keep, budget=budget, advance=task.advance)
            self._bucket.write(key, msgspec.msgpack.encode(index))
            return index


class _Loader:
    """Reads files that no index kept by streaming their layer again."""

    def __init__(self, source: Source, layers: Sequence[Descriptor]) -> None:
        self._source = source
        self._layers = layers
        self._size = sum({layer.digest: layer.size for layer in layers}.values())

    def __call__(self, position: int, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[memoryview]]]:
        layer = self._layers[position]
        with self._source.open_blob(layer) as stream:
            yield from extract_files(stream, layer, None, rows, budget=LayerBudget(known=self._size))
