# SPDX-License-Identifier: Apache-2.0
"""The produced layer as a stranger reads it: from the disk, again, stacked on the image's own layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from copacetic.oci.contentpack import MemoryPack
from copacetic.oci.layered import IndexedLayer, LayeredFilesystem
from copacetic.oci.layerindex import Row, scan_layer, unpack_text
from copacetic.oci.layerstore import KnownLayer
from copacetic.oci.layerstream import extract_files
from copacetic.pipeline.layer import NewLayer
from copacetic.pipeline.open.image import keep_rules

__all__ = ["Checksums", "ReadBack"]

Checksums: TypeAlias = Mapping[str, Mapping[str, str]]
"""Path in the layer → algorithm → hexadecimal digest, of every regular file."""


class _Hashers:
    """Several at once."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._each = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}

    def update(self, data: bytes) -> None:
        for one in self._each.values():
            one.update(data)

    def digests(self) -> Mapping[str, str]:
        return {algorithm: one.hexdigest() for algorithm, one in self._each.items()}


class ReadBack:
    """The produced layer."""

    def __init__(self, layer: NewLayer, known: KnownLayer, checksums: Checksums) -> None:
        self._layer = layer
        self.known = known
        self.checksums = checksums
        self.kept = known.kept

    @classmethod
    def of(cls, layer: NewLayer, algorithms: Iterable[str]) -> ReadBack:
        """
        Read a layer again from the disk as a stranger would.

        `algorithms` are those of the image's package databases; the SHA-256 is known of every file in any case. Raises
        `IntegrityError` for a layer that isn't what its descriptor says, and `CorruptLayerError` for one with another
        diff_id.
        """
        hashers: dict[str, _Hashers] = {}

        def on_file(path: str) -> Any:
            hashers[path] = _Hashers(algorithms)
            return hashers[path]

        keep = [(rules, MemoryPack()) for rules in keep_rules()]
        with layer.path.open("rb") as stream:
            index = scan_layer(stream, layer.descriptor, layer.diff_id, keep=keep, on_file=on_file)
        known = {unpack_text(row.path): row.sha256.hex() for row in index.rows if row.type == "0"}
        found = {path: {"sha256": known.get(path, ""), **every.digests()} for path, every in hashers.items()}
        links = {unpack_text(row.path): unpack_text(row.target) for row in index.rows if row.type == "1"}
        looked_into = KnownLayer(index, {rules.fingerprint: pack for rules, pack in keep})
        return cls(layer, looked_into, found | {path: found.get(target, {}) for path, target in links.items()})

    def stacked_on(self, fs: LayeredFilesystem) -> LayeredFilesystem:
        """Return the composed image's view."""
        return fs.stacked_with(IndexedLayer(self.known.index, self))

    def load(self, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[memoryview]]]:
        """See `LayerContents.load`."""
        with self._layer.path.open("rb") as stream:
            yield from extract_files(stream, self._layer.descriptor, self._layer.diff_id, rows)
