# SPDX-License-Identifier: Apache-2.0
"""
Images of a container engine on its own machine (`docker:NAME`, `podman:NAME`): its API's `save` and `load`.

The API saves whole images only, in an order that is good for nobody, so what comes is kept in a file without a name
as long as it is read. Loading may leave out what an engine has: Docker's two image stores look for a layer among
their own first, and only then in what they are given; podman wants all.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NoReturn, Self
from urllib.parse import quote

from copacetic.connect.engine import EngineClient
from copacetic.errors import ImageError, NotFoundError, RegistryError, UsageError
from copacetic.http import Response
from copacetic.oci.archive import OciArchiveDestination, OciArchiveSource
from copacetic.oci.archivefile import ArchiveFile
from copacetic.oci.blobs import CHUNK, disk_errors
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.dockerarchive import DockerArchiveSource
from copacetic.oci.layoutindex import IMAGE_NAME
from copacetic.oci.manifest import Index, Manifest, encode_document
from copacetic.oci.reference import DEFAULT_TAG, Reference
from copacetic.oci.referrers import Document
from copacetic.oci.selection import PlatformSource
from copacetic.oci.transport import ByteStream, Destination, Published, Source, refuse_document
from copacetic.oci.uploadbody import FileBody

_QUIET = 1_800.0
"""Seconds that an engine may take to collect an image, or to unpack one, without a word."""
_SAVED_LIMIT = 256 * 1024**3
_SAID_LIMIT = 4 * 1024 * 1024
_ONE_PLATFORM = "choose one with --platform"


class EngineSource:
    """Reads one image; the engine is asked for it once, when something of it is needed."""

    def __init__(self, kind: str, reference: Reference, client: EngineClient) -> None:
        self.name = f"{kind}:{reference}"
        self.client = client
        self._reference = reference
        self._lock = Lock()

    def root(self) -> tuple[Descriptor, bytes]:
        return self._archive.root()

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._archive.manifest(descriptor)

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[ByteStream]:
        return self._archive.open_blob(descriptor)

    @property
    def _archive(self) -> Source:
        with self._lock:
            return self._saved

    @cached_property
    def _saved(self) -> Source:
        path = f"{_path(self._reference)}/get"
        with (
            disk_errors(f"can't keep {self.name} while it is read"),
            tempfile.NamedTemporaryFile(prefix="copa-") as spool,
            self.client.request("GET", path, seconds=_QUIET) as response,
        ):
            if response.status != 200:
                raise _explain(self.name, response)
            while data := response.read(CHUNK):
                if spool.tell() > _SAVED_LIMIT:
                    raise ImageError(f"{self.name}: the engine sends more than {_SAVED_LIMIT} bytes")
                spool.write(data)
            spool.flush()
            return self._open(Path(spool.name))

    def _open(self, path: Path) -> Source:
        """Docker adds a layout, which has the image's own manifest; reading opens the file before its name goes."""
        is_layout = "index.json" in ArchiveFile(path)
        source: OciArchiveSource | DockerArchiveSource
        source = OciArchiveSource(path) if is_layout else DockerArchiveSource(path)
        source.name = self.name
        source.root()
        return source


class EngineDestination:
    """Writes one image; the engine is told at the end, when all of it has been checked."""

    def __init__(self, kind: str, reference: Reference, client: EngineClient) -> None:
        if reference.digest is not None:
            raise UsageError(f"{reference}: an image can't be written to a digest", hint="name a tag instead")
        self.name = f"{kind}:{reference}"
        self._reference = reference
        self._client = client
        self._wants_all = kind != "docker"

    def __enter__(self) -> Self:
        with disk_errors(f"can't gather what {self.name} is going to be"):
            self._folder = tempfile.TemporaryDirectory(prefix="copa-")
        self._path = Path(self._folder.name) / "image.tar"
        self._archive = OciArchiveDestination(self._path, self._reference.tag or DEFAULT_TAG).__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._archive.__exit__(*exc)
        self._folder.cleanup()

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        if self._wants_all or not self._is_from_here(source):
            self._archive.copy_blob(descriptor, source)

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        self._archive.write_blob(descriptor, path)

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        descriptor.check(raw, where=self.name)
        raise UsageError(f"{self.name} is to be one image, and this one has several platforms", hint=_ONE_PLATFORM)

    def attach(self, subject: Descriptor, document: Document) -> NoReturn:
        refuse_document(self)

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        if Index.is_index(descriptor.media_type):
            self.write_manifest(descriptor, raw)
        manifest = Manifest.parse(raw, descriptor.media_type)
        row = {
            "Config": _member(manifest.config),
            "RepoTags": [self._reference.familiar],
            "Layers": [_member(layer) for layer in manifest.layers],
        }
        self._archive.append("manifest.json", encode_document([row]))
        self._archive.publish(replace(descriptor, annotations={IMAGE_NAME: str(self._reference)}), raw)
        self._load()
        self._check({descriptor.digest.encoded, manifest.config.digest.encoded})
        return Published(name=self.name, digest=descriptor.digest)

    def _is_from_here(self, source: Source) -> bool:
        whole = source.whole if isinstance(source, PlatformSource) else source
        return isinstance(whole, EngineSource) and whole.client is self._client

    def _load(self) -> None:
        size = self._path.stat().st_size
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
        body = FileBody(self._path).pieces(0, size)
        with self._client.request(
            "POST", "/images/load?quiet=1", headers=headers, body=body, seconds=_QUIET
        ) as response:
            if response.status != 200:
                raise _explain(self.name, response)
            for said in _documents(response):
                if message := said.get("error"):
                    raise RegistryError(f"{self.name}: the engine can't load the image: {str(message)[:500]}")

    def _check(self, digests: set[str]) -> None:
        """Ask what the name leads to; Docker's stores call an image by its config or by its manifest."""
        answer = self._client.get(f"{_path(self._reference)}/json")
        identity = str(answer.document.get("Id", ""))
        if identity.removeprefix("sha256:") not in digests:
            found = identity[:80] if identity else answer.message
            raise RegistryError(f"{self.name}: the engine has taken the image for another one: {found}")


def _path(reference: Reference) -> str:
    """A short name, as podman looks for it in more than one registry."""
    return f"/images/{quote(reference.familiar, safe='/:@')}"


def _member(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.encoded}"


def _documents(response: Response) -> Iterator[dict[str, object]]:
    """Yield what an engine says, one object a line."""
    for line in response.read_all(_SAID_LIMIT).splitlines():
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield document


def _explain(name: str, response: Response) -> RegistryError:
    message = next((str(said["message"]) for said in _documents(response) if "message" in said), "")
    text = f"{name}: {message[:500] or f'the engine answers with status {response.status}'}"
    if response.status == 404:
        return NotFoundError(text, hint="look with `docker images` or `podman images`")
    return RegistryError(text)


_SOURCE: type[Source] = EngineSource
_DESTINATION: type[Destination] = EngineDestination
