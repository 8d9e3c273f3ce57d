# SPDX-License-Identifier: Apache-2.0
"""
Layer indexes, kept per blob and diff_id: a layer is streamed when nobody has looked into it before, and only then.

That a blob has the diff_id that an image's config claims is known only of those that were read: another blob under
a known diff_id is a layer that nobody has looked into.

Beside each index lies what was kept of the layer's files, in one pack for each set of rules. An index says nothing of
rules: for new ones a layer is streamed again only if it has something that they select.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future

import msgspec
from msgspec import Struct

from copacetic.budget import Slots, give_up
from copacetic.cache import Cache
from copacetic.keep import KeepRules
from copacetic.oci.contentpack import ContentPack, MemoryPack, PackWriter
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layered import IndexedLayer, LayeredFilesystem
from copacetic.oci.layerindex import LayerIndex, Row, scan_layer, unpack_text
from copacetic.oci.layerstream import LayerBudget, extract_files
from copacetic.oci.transport import Source
from copacetic.progress import Progress

INDEX_VERSION = 3
PACK_VERSION = 1

_Pair = tuple[Descriptor, Digest]


class KnownLayer(Struct, frozen=True):
    """A layer that was looked into: what is in it, and what was kept of its files."""

    index: LayerIndex
    packs: Mapping[str, ContentPack | MemoryPack]
    """By the fingerprint of their rules."""

    def kept(self, row: Row) -> bytes | None:
        """See `LayerContents.kept`."""
        return next((data for pack in self.packs.values() if (data := pack.get(row.sha256)) is not None), None)


class LayerStore:
    """The indexes of all layers that were ever looked into, and what was kept of their files for these rules."""

    def __init__(self, cache: Cache, keep: Sequence[KeepRules]) -> None:
        self._indexes = cache.bucket("layers", version=INDEX_VERSION)
        self._packs = cache.bucket("layer-contents", version=PACK_VERSION)
        self._keep = keep

    def open(
        self,
        source: Source,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        *,
        transfers: Slots,
        progress: Progress,
        meanwhile: Callable[[], object] = bool,
    ) -> LayeredFilesystem:
        """
        Stack the layers of an image, scanning side by side those of which something is missing; `meanwhile` is called
        when there are any.

        Raises `IntegrityError`, `CorruptLayerError` or `HostileLayerError` for a layer that is not what it should be.
        """
        pairs = list(zip(layers, diff_ids, strict=True))
        unique = {_key(pair): pair for pair in pairs}
        found = {key: self.find(*pair) for key, pair in unique.items()}
        missing = [key for key, known in found.items() if known is None]
        budget = LayerBudget(known=sum(unique[key][0].size for key, known in found.items() if known is not None))
        work = {key: transfers.submit(self._scan, source, unique[key], budget, progress) for key in missing}
        try:
            if missing:
                meanwhile()
            stacked = self._collect(pairs, found, work)
        finally:
            give_up(work.values())
        size = sum({layer.digest: layer.size for layer in layers}.values())
        return LayeredFilesystem(
            [
                IndexedLayer(known.index, _StoredContents(source, layer, known, size))
                for layer, known in zip(layers, stacked, strict=True)
            ]
        )

    def find(self, layer: Descriptor, diff_id: Digest) -> KnownLayer | None:
        """Return what is known of a layer, or None when the layer has to be read for what is missing."""
        key = _key((layer, diff_id))
        index, packs = self._find_index(key, diff_id), self._find_packs(key)
        if index is None:
            return None
        missing = [rules for rules in self._keep if rules.fingerprint not in packs]
        if missing:
            files = [(unpack_text(row.path), row.size) for row in index.rows if row.type == "0"]
            if any(rules.select(path, size) for rules in missing for path, size in files):
                return None
            for rules in missing:  # so that nobody goes through all those files again
                self._write_pack(key, rules.fingerprint, MemoryPack())
        return KnownLayer(index, packs)

    def remember(self, layer: Descriptor, known: KnownLayer) -> None:
        """Keep what somebody else has found out about a layer, by the same rules."""
        key = _key((layer, Digest.parse(known.index.diff_id)))
        for fingerprint, pack in known.packs.items():
            if isinstance(pack, MemoryPack):
                self._write_pack(key, fingerprint, pack)
        self._indexes.write(key, msgspec.msgpack.encode(known.index))

    def _collect(
        self, pairs: Sequence[_Pair], found: Mapping[str, KnownLayer | None], work: Mapping[str, Future[KnownLayer]]
    ) -> list[KnownLayer]:
        """Return what is known of the layers; up to each, the lower ones may hold as much as their size allows."""
        stacked: list[KnownLayer] = []
        seen: set[str] = set()
        stored = plain = metadata = 0
        for pair in pairs:
            key = _key(pair)
            known = found[key] or work[key].result()
            if key not in seen:  # another time it costs no reading, but as much of what a view costs
                seen.add(key)
                stored += pair[0].size
                plain += known.index.size
            metadata += known.index.metadata
            LayerBudget.check(stored=stored, plain=plain, metadata=metadata)
            stacked.append(known)
        return stacked

    def _find_index(self, key: str, diff_id: Digest) -> LayerIndex | None:
        data = self._indexes.read(key)
        if data is None:
            return None
        try:
            index = msgspec.msgpack.decode(data, type=LayerIndex)
        except msgspec.DecodeError:
            return None
        return index if index.diff_id == str(diff_id) else None

    def _find_packs(self, key: str) -> dict[str, ContentPack]:
        """Return those that are there, by the fingerprint of their rules."""
        found = {rules.fingerprint: ContentPack.find(self._packs, f"{key}-{rules.fingerprint}") for rules in self._keep}
        return {fingerprint: pack for fingerprint, pack in found.items() if pack is not None}

    def _write_pack(self, key: str, fingerprint: str, pack: MemoryPack) -> None:
        with self._packs.create(f"{key}-{fingerprint}") as file:
            writer = PackWriter(file)
            for sha256, content in pack.items():
                writer.write(memoryview(content))
                writer.end(sha256)
            writer.finish()

    def _scan(self, source: Source, pair: _Pair, budget: LayerBudget, progress: Progress) -> KnownLayer:
        key = _key(pair)
        with self._indexes.lock(key):
            known = self.find(*pair)
            if known is not None:
                return known
            packs = self._find_packs(key)
            layer, diff_id = pair
            label = f"read layer {diff_id.encoded[:12]}"
            with contextlib.ExitStack() as stack:
                writers = [
                    (rules, PackWriter(stack.enter_context(self._packs.create(f"{key}-{rules.fingerprint}"))))
                    for rules in self._keep
                    if rules.fingerprint not in packs
                ]
                task = stack.enter_context(progress.task(label, total=layer.size))
                stream = stack.enter_context(source.open_blob(layer))
                kept = sum(pack.size for pack in packs.values())
                index = scan_layer(stream, layer, diff_id, keep=writers, kept=kept, budget=budget, advance=task.advance)
                for _, writer in writers:
                    writer.finish()
            self._indexes.write(key, msgspec.msgpack.encode(index))
            return KnownLayer(index, self._find_packs(key))


class _StoredContents:
    """`LayerContents` out of the cache, and out of the layer for what isn't there."""

    def __init__(self, source: Source, layer: Descriptor, known: KnownLayer, size: int) -> None:
        """`size` is that of all layers of the image."""
        self._source = source
        self._layer = layer
        self.kept = known.kept
        self._size = size

    def load(self, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[memoryview]]]:
        with self._source.open_blob(self._layer) as stream:
            yield from extract_files(stream, self._layer, None, rows, budget=LayerBudget(known=self._size))


def _key(pair: _Pair) -> str:
    layer, diff_id = pair
    return hashlib.sha256(f"{layer.digest} {layer.size} {diff_id}".encode()).hexdigest()
