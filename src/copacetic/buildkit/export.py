# SPDX-License-Identifier: Apache-2.0
"""
The layers of a result, out of the OCI archive that a builder sends: written as it comes, hashed on the way.

Nothing of the archive is trusted: names, sizes and digests are checked, and only layers that the manifest names stay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Code, RpcError, ServerCall
from copacetic.buildkit.session import parse
from copacetic.compression import CHUNK, DecompressedReader, DecompressionError
from copacetic.errors import CopaError, SolverError, StorageError
from copacetic.llb.solver import ExportedLayer
from copacetic.oci import Descriptor, Digest, ImageConfig, Index, Manifest
from copacetic.oci.tarstream import TarError, TarLimits, TarReader

__all__ = ["LayerReceiver"]

METHOD = "/moby.filesync.v1.FileSend/DiffCopy"
EXPORTER = (
    "oci",
    {"compression": "zstd", "compression-level": "1", "force-compression": "true", "oci-mediatypes": "true"},
)
"""Compressed with little effort a layer is here in half the time: its way through the session is what costs."""
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_DOCUMENT_LIMIT = 4 << 20
_TAR_LIMITS = TarLimits(entries=10_000, header=64 * 1024, path=1024, depth=8)


class LayerReceiver:
    """Takes one archive into a private empty folder; `limit` is in bytes, for all of it."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._index = b""
        self._blobs: dict[str, Path] = {}
        self.failure: CopaError | None = None
        """Why taking it failed, which the builder only reports back."""

    def handle(self, call: ServerCall) -> None:
        """Serve the builder's call."""
        try:
            self._receive(TarReader(_Incoming(call, self._limit), limits=_TAR_LIMITS))
        except OSError as error:
            self.failure = StorageError(f"{self._folder}: {(error.strerror or str(error)).lower()}")
        except TarError as error:
            self.failure = SolverError(f"the builder's archive is broken: {error}")
        except CopaError as error:
            self.failure = error
        if self.failure is not None:
            raise RpcError(Code.RESOURCE_EXHAUSTED, str(self.failure))

    def layers(self) -> tuple[ExportedLayer, ...]:
        """Return the layers, lowest first, once the builder has ended; what else came is removed."""
        manifest = Manifest.parse(self._document(self._manifest_descriptor()))
        config = ImageConfig.parse(self._document(manifest.config))
        if len(config.diff_ids) != len(manifest.layers):
            raise SolverError("the builder's manifest and configuration name different numbers of layers")
        layers = []
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            layers.append(self._layer(descriptor, diff_id))
        kept = {layer.path for layer in layers}
        for path in set(self._blobs.values()) - kept:
            path.unlink(missing_ok=True)
        return tuple(layers)

    def _receive(self, archive: TarReader) -> None:
        for entry in archive:
            if entry.type != "0":
                continue
            blob = _BLOB.fullmatch(entry.path)
            if blob:
                self._write(blob[1], archive.content())
            elif entry.path == "index.json":
                if entry.size > _DOCUMENT_LIMIT:
                    raise SolverError(f"the builder's index has {entry.size} bytes")
                self._index = b"".join(bytes(piece) for piece in archive.content())
        archive.drain()

    def _write(self, name: str, content: Iterator[memoryview]) -> None:
        path, state = self._folder / name, hashlib.sha256()
        with path.open("xb") as file:
            for piece in content:
                state.update(piece)
                file.write(piece)
        if state.hexdigest() != name:
            raise SolverError(f"a blob of the builder's is not what its name says: sha256:{name}")
        self._blobs[f"sha256:{name}"] = path

    def _manifest_descriptor(self) -> Descriptor:
        manifests = Index.parse(self._index).manifests
        if len(manifests) != 1:
            raise SolverError(f"the builder has exported {len(manifests)} images instead of one")
        if not Index.is_index(manifests[0].media_type):
            return manifests[0]
        inner = [one for one in Index.parse(self._document(manifests[0])).manifests if not Index.is_attestation(one)]
        if len(inner) != 1:
            raise SolverError(f"the builder has exported {len(inner)} platforms instead of one")
        return inner[0]

    def _document(self, descriptor: Descriptor) -> bytes:
        path = self._path(descriptor)
        if path.stat().st_size > _DOCUMENT_LIMIT:
            raise SolverError(f"{descriptor.digest} is too big for a document")
        return path.read_bytes()

    def _path(self, descriptor: Descriptor) -> Path:
        path = self._blobs.get(str(descriptor.digest))
        if path is None:
            raise SolverError(f"the builder's archive lacks {descriptor.digest}")
        return path

    def _layer(self, descriptor: Descriptor, diff_id: Digest) -> ExportedLayer:
        """Return a layer as a plain tar, whatever it was compressed with on the way."""
        path = self._path(descriptor)
        if descriptor.digest != diff_id:
            path = self._decompress(path, diff_id)
        return ExportedLayer(path=path, media_type=PLAIN_LAYER, digest=diff_id, size=path.stat().st_size)

    def _decompress(self, path: Path, diff_id: Digest) -> Path:
        target, state = self._folder / diff_id.encoded, diff_id.hasher()
        try:
            with path.open("rb") as source, target.open("xb") as file:
                reader = DecompressedReader(source, limit=self._limit)
                while piece := reader.read(CHUNK):
                    state.update(piece)
                    file.write(piece)
        except DecompressionError as error:
            raise SolverError(f"a layer of the builder's can't be unpacked: {error}") from error
        if state.hexdigest() != diff_id.encoded:
            raise SolverError(f"a layer of the builder's is not what its diff_id says: {diff_id}")
        return target


class _Incoming:
    """The bytes of a call's messages, as a stream."""

    def __init__(self, call: ServerCall, limit: int) -> None:
        self._call = call
        self._message = schema.session().BytesMessage
        self._left = limit
        self._limit = limit

    def read(self, _size: int, /) -> bytes:
        while (message := self._call.receive()) is not None:
            data: bytes = parse(self._message, message).data
            self._left -= len(data)
            if self._left < 0:
                raise SolverError(f"the builder exports more than {self._limit} bytes")
            if data:
                return data
        return b""
