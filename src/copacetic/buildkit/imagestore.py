# SPDX-License-Identifier: Apache-2.0
"""
Images of the client for `oci-layout://`: containerd's content service, read only, over `oci.transport.Source`s.

Nothing is fetched before the builder asks. A blob can be asked for when something that was read before names it,
beginning with the image's own root; its bytes are checked by the builder, which knows the digest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Any

from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Code, Handler, RpcError, ServerCall
from copacetic.buildkit.session import parse
from copacetic.errors import CopaError
from copacetic.oci import Descriptor, Index, Manifest
from copacetic.oci.transport import ByteStream, Source

__all__ = ["ImageStore"]

_STORE = "buildkit-attachable-store-id"
_PIECE = 1 << 19
_KEEP_OPEN = 4
_MANIFEST_LIMIT = 4 << 20
_logger = logging.getLogger(__name__)


class ImageStore:
    """Serves images by the id of their store."""

    def __init__(self, images: Mapping[str, Source]) -> None:
        self._images = {name: _Image(source) for name, source in images.items()}

    def methods(self) -> dict[str, Handler]:
        """Return the handlers; every other method of the service is unknown to the builder."""
        return {
            "/containerd.services.content.v1.Content/Info": self._info,
            "/containerd.services.content.v1.Content/Read": self._read,
        }

    def close(self) -> None:
        for image in self._images.values():
            image.close()

    def _find(self, call: ServerCall, digest: str) -> tuple[_Image, Descriptor]:
        store = next(iter(call.metadata(_STORE)), "").removeprefix("oci:")
        image = self._images.get(store)
        if image is None:
            raise RpcError(Code.NOT_FOUND, f"no image {store!r} is served here")
        try:
            descriptor = image.find(digest)
        except CopaError as error:
            raise RpcError(Code.UNKNOWN, str(error)) from error
        if descriptor is None:
            raise RpcError(Code.NOT_FOUND, f"content {digest}: not found")
        return image, descriptor

    def _info(self, call: ServerCall) -> None:
        messages = schema.session()
        request = parse(messages.ContentInfoRequest, call.receive())
        _, descriptor = self._find(call, request.digest)
        response = messages.ContentInfoResponse()
        response.info.digest, response.info.size = str(descriptor.digest), descriptor.size
        call.send(response.SerializeToString())

    def _read(self, call: ServerCall) -> None:
        messages = schema.session()
        request = parse(messages.ReadContentRequest, call.receive())
        image, descriptor = self._find(call, request.digest)
        left = descriptor.size - request.offset
        if request.offset < 0 or left < 0 or request.size < 0:
            raise RpcError(Code.INVALID_ARGUMENT, f"{request.digest} has {descriptor.size} bytes")
        left = min(left, request.size) if request.size else left
        try:
            with image.reading(descriptor, request.offset) as reader:
                offset = request.offset
                while left and (data := reader.read(min(left, _PIECE))):
                    call.send(messages.ReadContentResponse(offset=offset, data=data).SerializeToString())
                    offset, left = offset + len(data), left - len(data)
        except CopaError as error:
            _logger.debug("serving %s", request.digest, exc_info=True)
            raise RpcError(Code.UNKNOWN, str(error)) from error


class _Image:
    """What is known of one image so far, and the blobs that are being read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = Lock()
        self._known: dict[str, Descriptor] = {}
        self._manifests: dict[str, bytes] = {}
        self._open: list[_Reader] = []

    def find(self, digest: str) -> Descriptor | None:
        with self._lock:
            if not self._known:
                descriptor, raw = self._source.root()
                self._learn(descriptor, raw)
            return self._known.get(digest)

    def reading(self, descriptor: Descriptor, offset: int) -> _Reading:
        """Return a reader from an offset on; one that was left just there goes on, since builders read in pieces."""
        digest = str(descriptor.digest)
        with self._lock:
            if digest not in self._manifests and _names_others(descriptor):
                self._learn(descriptor, self._source.manifest(descriptor))
            for reader in self._open:
                if (reader.digest, reader.offset) == (digest, offset):
                    self._open.remove(reader)
                    return _Reading(self, reader)
        raw = self._manifests.get(digest)
        reader = _Reader(digest, _Bytes(raw) if raw is not None else None, self._source, descriptor)
        reader.skip(offset)
        return _Reading(self, reader)

    def give_back(self, reader: _Reader, *, keep: bool) -> None:
        with self._lock:
            if keep:
                self._open.append(reader)
            closing = [] if keep else [reader]
            while len(self._open) > _KEEP_OPEN:
                closing.append(self._open.pop(0))
        for one in closing:
            one.close()

    def close(self) -> None:
        with self._lock:
            closing, self._open = self._open, []
        for one in closing:
            one.close()

    def _learn(self, descriptor: Descriptor, raw: bytes) -> None:
        """Remember a manifest or an index and what it names; the lock is held."""
        if len(raw) > _MANIFEST_LIMIT:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{descriptor.digest} is too big for a manifest")
        self._known[str(descriptor.digest)] = descriptor
        self._manifests[str(descriptor.digest)] = raw
        if Index.is_index(descriptor.media_type):
            children = list(Index.parse(raw, descriptor.media_type).manifests)
        else:
            manifest = Manifest.parse(raw, descriptor.media_type)
            children = [manifest.config, *manifest.layers]
        for child in children:
            self._known.setdefault(str(child.digest), child)


def _names_others(descriptor: Descriptor) -> bool:
    return descriptor.media_type.endswith(("manifest.v1+json", "manifest.v2+json", "index.v1+json", "list.v2+json"))


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)

    def read(self, size: int, /) -> bytes:
        data, self._view = bytes(self._view[:size]), self._view[size:]
        return data


class _Reader:
    """A blob that is read from its beginning, and where it stands."""

    def __init__(self, digest: str, ready: _Bytes | None, source: Source, descriptor: Descriptor) -> None:
        self.digest = digest
        self.offset = 0
        self._context: AbstractContextManager[ByteStream] | None = None
        if ready is not None:
            self._stream: ByteStream = ready
        else:
            self._context = source.open_blob(descriptor)
            self._stream = self._context.__enter__()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.offset += len(data)
        return data

    def skip(self, size: int) -> None:
        while self.offset < size and self.read(min(_PIECE, size - self.offset)):
            pass

    def close(self) -> None:
        if self._context is not None:
            with suppress(CopaError, OSError):
                self._context.__exit__(None, None, None)


class _Reading:
    """Lends a reader for one call."""

    def __init__(self, image: _Image, reader: _Reader) -> None:
        self._image = image
        self._reader = reader

    def __enter__(self) -> Any:
        return self._reader

    def __exit__(self, kind: object, *_rest: object) -> None:
        self._image.give_back(self._reader, keep=kind is None)
