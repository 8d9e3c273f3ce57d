# SPDX-License-Identifier: Apache-2.0
"""
Images in registries, by the OCI distribution specification.

What a tag leads to is read once: everything after that goes by digest, so a tag that moves in between does no harm.
Manifests are checked here; blobs are checked by whoever reads them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

from copacetic.compression import DecompressedReader, DecompressionError
from copacetic.errors import (
    ImageError,
    IntegrityError,
    NotFoundError,
    RegistryError,
    StorageError,
    UnreachableError,
    UsageError,
)
from copacetic.http import Response, ResumedBody
from copacetic.http.client import REDIRECTS
from copacetic.oci.challenge import PULL, PUSH
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.manifest import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES, detect_media_type
from copacetic.oci.reference import Reference
from copacetic.oci.referrers import Document, list_referrer, make_referrer, referrers_tag
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import Endpoint
from copacetic.oci.registryerror import explain_answer
from copacetic.oci.transport import ByteStream, Destination, Published, Source
from copacetic.oci.upload import Uploader
from copacetic.oci.uploadbody import Body, DataBody, FileBody, SourceBody

_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
_LIST_ATTEMPTS = 5
_GZIP = b"\x1f\x8b"
_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


class RegistrySource:
    """Reads one reference, from a mirror where there is one that has it; thread-safe."""

    def __init__(self, reference: Reference, client: RegistryClient) -> None:
        self.reference = reference
        self._client = client
        self._endpoints = client.config.select_pull(reference)
        self._lock = Lock()
        self._root: tuple[Descriptor, bytes] | None = None

    @property
    def name(self) -> str:
        return str(self.reference)

    @property
    def origin(self) -> Endpoint:
        """Where the image really is, mirrors aside."""
        return next(endpoint for endpoint in self._endpoints if not endpoint.is_mirror)

    def root(self) -> tuple[Descriptor, bytes]:
        with self._lock:
            if self._root is None:
                self._root = self._read_anywhere(self._read_root)
            return self._root

    def manifest(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > MANIFEST_LIMIT:
            raise ImageError(f"{self.name}: {descriptor.digest} is too large for a manifest: {descriptor.size} bytes")

        def read(endpoint: Endpoint) -> bytes:
            what = f"{self.name}: manifest {descriptor.digest}"
            raw, headers = _read_manifest(self._client, endpoint, str(descriptor.digest), what)
            descriptor.check(raw, where=self.name)
            _check_header(headers, descriptor.digest, self.name)
            return raw

        return self._read_anywhere(read)

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[ByteStream]:
        return self._read_anywhere(lambda endpoint: self._open_blob(endpoint, descriptor))

    def _read_anywhere(self, read: Callable[[Endpoint], _T]) -> _T:
        """
        Read from the first endpoint that can deliver. Whatever goes wrong at a mirror, the origin may do better.

        The endpoint that delivered is the first to be asked next time.
        """
        endpoints = self._endpoints
        for endpoint in endpoints:
            try:
                found = read(endpoint)
            except (RegistryError, IntegrityError, ImageError) as error:
                if endpoint is endpoints[-1]:
                    raise
                _logger.debug("%s: not from %s: %s", self.name, endpoint.name, error)
            else:
                if endpoint is not endpoints[0]:
                    self._endpoints = (endpoint, *(e for e in endpoints if e is not endpoint))
                return found
        raise AssertionError  # pragma: no cover - there is always an endpoint

    def _read_root(self, endpoint: Endpoint) -> tuple[Descriptor, bytes]:
        wanted = self.reference.digest
        raw, headers = _read_manifest(self._client, endpoint, str(wanted or self.reference.tag), self.name)
        digest = wanted or Digest.of(raw)
        try:
            media_type = _find_media_type(raw, headers)
        except ImageError as error:
            kind = headers.get("Content-Type", "")[:80] or "no type"
            raise ImageError(f"{self.name}: {error}; what {endpoint.name} answers is of {kind}") from error
        descriptor = Descriptor(media_type=media_type, digest=digest, size=len(raw))
        descriptor.check(raw, where=self.name)
        _check_header(headers, digest, self.name)
        _logger.debug("%s is %s at %s", self.name, digest, endpoint.name)
        return descriptor, raw

    def _open_blob(self, endpoint: Endpoint, descriptor: Descriptor) -> _Blob:
        what = f"{self.name}: blob {descriptor.digest}"

        def send(headers: Mapping[str, str]) -> Response:
            response = self._client.send(endpoint, "GET", f"blobs/{descriptor.digest}", what=what, headers=headers)
            if response.status not in ((200, 206) if "Range" in headers else (200,)):
                raise explain_answer(response, what)
            return response

        http = self._client.http
        try:
            body = ResumedBody(send({}), send, size=descriptor.size, breaks=http.settings.retries, pause=http.pause)
        except IntegrityError as error:
            raise error.reworded(f"{what}: {error}") from error
        return _Blob(body, what)


class _Blob:
    """A body whose errors say which blob of which image it is."""

    def __init__(self, body: ResumedBody, what: str) -> None:
        self._body = body
        self._what = what

    def read(self, size: int, /) -> bytes:
        try:
            return self._body.read(size)
        except (UnreachableError, IntegrityError) as error:
            if str(error).startswith(self._what):
                raise
            raise error.reworded(f"{self._what}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._body.close()


class RegistryDestination:
    """Writes one reference; methods that write blobs may run in several threads."""

    def __init__(self, reference: Reference, client: RegistryClient) -> None:
        if reference.digest is not None or not reference.tag:
            raise UsageError(f"{reference}: an image can't be written to a digest", hint="name a tag instead")
        self.reference = reference
        self._client = client
        self._endpoint = client.config.select_push(reference)
        self._uploader = Uploader(client, self._endpoint, self.name)
        self._lock = Lock()
        self._blobs: dict[Digest, _Progress] = {}

    @property
    def name(self) -> str:
        return str(self.reference)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Unfinished uploads are cancelled. Blobs without a manifest are the registry's to collect."""
        self._uploader.close()

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        with self._claim(descriptor) as claimed:
            if claimed.done:
                return
            location = self._mount(descriptor, source)
            if location is not None:
                self._copy(descriptor, source, location)
            claimed.done = True

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StorageError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        if size != descriptor.size:
            raise IntegrityError(f"{path}: has {size} bytes instead of the {descriptor.size} of {descriptor.digest}")
        self._upload(descriptor, FileBody(path))

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        self._put(descriptor, raw, str(descriptor.digest))

    def attach(self, subject: Descriptor, document: Document) -> None:
        """A registry that knows what a subject is says so; for others the referrers are listed under a tag, too."""
        referrer = make_referrer(subject, document)
        for descriptor, data in referrer.blobs:
            self._upload(descriptor, DataBody(data))
        headers = self._put(referrer.descriptor, referrer.raw, str(referrer.descriptor.digest))
        if headers.get("OCI-Subject") != str(subject.digest):
            self._list(referrers_tag(subject.digest), referrer.descriptor)

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        self._put(descriptor, raw, self.reference.tag)
        return Published(name=self.name, digest=descriptor.digest)

    def _list(self, tag: str, referrer: Descriptor) -> None:
        """Others may write a list at the same time, and the last one wins: what was written is read again."""
        where = f"{self.reference.name}:{tag}"
        for _ in range(_LIST_ATTEMPTS):
            try:
                found, _headers = _read_manifest(self._client, self._endpoint, tag, where, actions=PUSH)
            except NotFoundError:
                found = None
            descriptor, listed = list_referrer(found, referrer, where)
            if listed == found:
                return
            self._put(descriptor, listed, tag)
        raise RegistryError(f"{where}: the list of referrers doesn't keep what is written to it", hint="try again")

    def _upload(self, descriptor: Descriptor, body: Body) -> None:
        with self._claim(descriptor) as claimed:
            if not claimed.done and not self._has(descriptor):
                self._uploader.upload(descriptor, body)
            claimed.done = True

    def _copy(self, descriptor: Descriptor, source: Source, location: str) -> None:
        """Send a blob, in the upload that a refused mount began, if there is one."""
        if self._has(descriptor):
            if location:
                self._uploader.abandon(descriptor, location)
            return
        body = SourceBody(source, descriptor)
        try:
            self._uploader.upload(descriptor, body, location=location)
        finally:
            body.close()

    def _claim(self, descriptor: Descriptor) -> _Progress:
        """Hold a blob, so that images which share it don't send it twice at the same time."""
        with self._lock:
            return self._blobs.setdefault(descriptor.digest, _Progress())

    def _mount(self, descriptor: Descriptor, source: Source) -> str | None:
        """Return None when the blob is mounted, otherwise the address of a begun upload, or an empty one."""
        if not isinstance(source, RegistrySource):
            return ""
        origin = source.origin
        if origin.registry != self._endpoint.registry or origin.repository == self._endpoint.repository:
            return ""
        location = self._uploader.mount(descriptor, origin.repository)
        _logger.debug("%s: %s from %s", descriptor.digest, "mounted" if location is None else "no mount", origin.name)
        return location

    def _has(self, descriptor: Descriptor) -> bool:
        """
        Ask whether a blob is there. Where the registry leads elsewhere, only who has it can tell: a redirect is no
        proof. A blob that is sent although it is there does no harm.
        """
        what = f"{self.name}: looking for {descriptor.digest}"

        def look(method: str, headers: Mapping[str, str], *, redirect: bool) -> Response:
            path = f"blobs/{descriptor.digest}"
            return self._client.send(
                self._endpoint, method, path, what=what, actions=PUSH, headers=headers, redirect=redirect
            )

        response = look("HEAD", {}, redirect=False)
        if response.status in {401, 403, 429} or response.status >= 500:
            raise explain_answer(response, what)
        response.discard()
        if response.status not in REDIRECTS:
            return response.status == 200
        try:  # not with HEAD, for which a storage's address isn't signed
            with look("GET", {"Range": "bytes=0-0"}, redirect=True) as found:
                return found.status in {200, 206}
        except UnreachableError:
            return False

    def _put(self, descriptor: Descriptor, raw: bytes, name: str) -> Mapping[str, str]:
        descriptor.check(raw, where=self.name)
        what = self.name if name == self.reference.tag else f"{self.name}: manifest {name}"
        headers = {"Content-Type": descriptor.media_type}
        response = self._client.send(
            self._endpoint, "PUT", f"manifests/{name}", what=what, actions=PUSH, headers=headers, body=raw
        )
        if response.status not in {200, 201, 202}:
            raise explain_answer(response, what)
        response.discard()
        _check_header(response.headers, descriptor.digest, what)
        return response.headers


class _Progress:
    """One blob's lock, and whether it is there."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.done = False

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def _read_manifest(
    client: RegistryClient, endpoint: Endpoint, name: str, what: str, *, actions: str = PULL
) -> tuple[bytes, Mapping[str, str]]:
    headers = {"Accept": _ACCEPT}
    with client.send(endpoint, "GET", f"manifests/{name}", what=what, actions=actions, headers=headers) as response:
        if response.status != 200:
            raise explain_answer(response, what)
        try:
            return _decode(response.read_all(MANIFEST_LIMIT), what), response.headers
        except (UnreachableError, IntegrityError) as error:
            raise error.reworded(f"{what}: {error}") from error


def _decode(raw: bytes, what: str) -> bytes:
    """Undo a content coding that nobody asked for; a manifest is text, so its first bytes can't be meant."""
    if not raw.startswith(_GZIP):
        return raw
    try:
        reader = DecompressedReader(BytesIO(raw), limit=MANIFEST_LIMIT)
        return b"".join(iter(lambda: reader.read(1 << 18), b""))
    except DecompressionError as error:
        raise ImageError(f"{what}: the manifest can't be decompressed: {error}") from error


def _find_media_type(raw: bytes, headers: Mapping[str, str]) -> str:
    """The document says what it is; if it doesn't, the registry may, as long as it is one of the known kinds."""
    found = detect_media_type(raw)
    declared = headers.get("Content-Type", "").partition(";")[0].strip()
    known = declared in MANIFEST_TYPES or declared in INDEX_TYPES
    return declared if known and declared != found and not json.loads(raw).get("mediaType") else found


def _check_header(headers: Mapping[str, str], digest: Digest, what: str) -> None:
    """Compare the digest that the registry believes in, if it is of the same algorithm."""
    claimed = headers.get("Docker-Content-Digest", "")
    if claimed.startswith(f"{digest.algorithm}:") and claimed != str(digest):
        raise IntegrityError(f"{what}: the registry says {claimed[:140]}, the bytes are {digest}")


_source: type[Source] = RegistrySource
_destination: type[Destination] = RegistryDestination
