# SPDX-License-Identifier: Apache-2.0
"""
Registries whose answers a test writes: one that offers an image, one that takes uploads, and clients for them.

    with registry() as server, clients() as connect:
        offer(server)
        RegistrySource(reference(server), connect()).root()
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from copacetic.http import HttpClient, HttpSettings
from copacetic.oci.credentials import Keychain
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.reference import Reference
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import RegistryConfig
from copacetic.oci.registrysettings import RegistrySettings
from copacetic.oci.transport import Source
from support.image.images import Image, make_image, make_layer
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer

Connect = Callable[..., RegistryClient]

LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB
IMAGE = make_image([make_layer({"etc/os-release": "ID=debian\n"}), make_layer(LARGE, compression="none")])
(SMALL_LAYER, LARGE_LAYER) = (layer.descriptor for layer in IMAGE.layers)


@contextmanager
def registry() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        running.on("GET", "/v2/", Answer(headers={"Docker-Distribution-Api-Version": "registry/2.0"}))
        yield running


@contextmanager
def clients() -> Iterator[Connect]:
    """Yield a maker of clients that never sleep; its keyword arguments are registry settings."""
    with ExitStack() as opened:

        def connect(*, keychain: Keychain | None = None, read_timeout: float = 5, **settings: Any) -> RegistryClient:
            http = HttpClient(HttpSettings(retries=2, read_timeout=read_timeout), sleep=lambda _: None)
            opened.enter_context(http)
            return RegistryClient(http, RegistryConfig(RegistrySettings(**settings)), keychain or Keychain())

        yield connect


def reference(server: FaultyServer, name: str = "team/app:1") -> Reference:
    return Reference.parse(f"{server.host}/{name}")


def offer(server: FaultyServer, image: Image = IMAGE, repository: str = "team/app", tag: str = "1") -> None:
    """Let the server have an image, as a good registry has it."""
    root = Answer(headers={"Content-Type": image.descriptor.media_type}, body=image.raw)
    server.on("GET", f"/v2/{repository}/manifests/{tag}", root)
    for digest, data in image.blobs.items():
        server.on("GET", f"/v2/{repository}/blobs/{digest}", Answer(body=data, ranges=True))
        server.on("GET", f"/v2/{repository}/manifests/{digest}", Answer(body=data))


def read_blob(source: Source, descriptor: Descriptor) -> bytes:
    data = bytearray()
    with source.open_blob(descriptor) as stream:
        while part := stream.read(1 << 18):
            data += part
    return bytes(data)


def sent_methods(server: FaultyServer) -> list[str]:
    """What was asked of the server, aside from the question whether it is a registry."""
    return [seen.method for seen in server.requests if seen.path != "/v2/"]


class Store:
    """The writing half of a registry, with what goes wrong given per test."""

    def __init__(self, server: FaultyServer, repository: str = "team/new") -> None:
        self.server = server
        self.base = f"/v2/{repository}"
        self.received: dict[str, bytearray] = {}
        self.blobs: dict[str, bytes] = {}
        self.refuse: Callable[[Seen], Answer | None] = lambda _: None
        """What a PATCH or PUT gets instead of being taken."""
        server.on("POST", f"{self.base}/blobs/uploads/", self.start)
        server.on("HEAD", "*", self.head)

    def start(self, seen: Seen) -> Answer:
        path = f"/uploads/{len(self.received)}"
        self.received[path] = bytearray()
        self.server.on("PATCH", path, self.patch)
        self.server.on("PUT", path, self.put)
        self.server.on("GET", path, self.status)
        self.server.on("DELETE", path, Answer(status=204))
        return Answer(status=202, headers={"Location": f"{path}?state=a%3Db%2B"})

    def patch(self, seen: Seen) -> Answer:
        if (refusal := self.refuse(seen)) is not None:
            return refusal
        data = self.received[seen.path]
        start = int(seen.headers.get("content-range", str(len(data))).partition("-")[0])
        if start != len(data):
            return Answer(status=416, headers=self.range_of(seen.path))
        data += seen.body
        return Answer(status=202, headers=self.range_of(seen.path))

    def put(self, seen: Seen) -> Answer:
        if (refusal := self.refuse(seen)) is not None:
            return refusal
        assert seen.query["state"] == "a=b+"
        data = bytes(self.received[seen.path]) + seen.body
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != seen.query["digest"]:
            return json_answer({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}, 400)
        self.blobs[digest] = data
        return Answer(status=201)

    def status(self, seen: Seen) -> Answer:
        return Answer(status=204, headers=self.range_of(seen.path), length=False)

    def range_of(self, path: str) -> dict[str, str]:
        return {"Range": f"0-{max(len(self.received[path]) - 1, 0)}", "Location": f"{path}?state=a%3Db%2B"}

    def head(self, seen: Seen) -> Answer:
        return Answer(status=200 if seen.path.rpartition("/")[2] in self.blobs else 404)
