# SPDX-License-Identifier: Apache-2.0
"""Against a server that answers as told; see `test_registry_system` for a real one."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from copacetic.errors import (
    AuthenticationError,
    CopaError,
    ImageError,
    IntegrityError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    StorageError,
    UnreachableError,
    UnsupportedImageError,
    UsageError,
)
from copacetic.http import HttpClient, HttpSettings
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.manifest import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from copacetic.oci.reference import Reference
from copacetic.oci.registry import RegistryDestination, RegistrySource
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import RegistryConfig, RegistrySettings
from copacetic.oci.transport import ByteStream
from support.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer
from support.images import Image, MemoryDestination, MemorySource, copy_image, describe, encode, make_image, make_layer

LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB
IMAGE = make_image([make_layer({"etc/os-release": "ID=debian\n"}), make_layer(LARGE, compression="none")])
(SMALL_LAYER, LARGE_LAYER) = (layer.descriptor for layer in IMAGE.layers)
API = Answer(headers={"Docker-Distribution-Api-Version": "registry/2.0"})


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with registry() as running:
        yield running


@contextmanager
def registry() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        running.on("GET", "/v2/", API)
        yield running


@pytest.fixture
def connect() -> Iterator[Callable[..., RegistryClient]]:
    """Makes clients that never sleep; keyword arguments are registry settings."""
    opened: list[HttpClient] = []

    def make(*, keychain: Keychain | None = None, read_timeout: float = 5, **settings: object) -> RegistryClient:
        http = HttpClient(HttpSettings(retries=2, read_timeout=read_timeout), sleep=lambda _: None)
        opened.append(http)
        config = RegistryConfig(RegistrySettings(**settings))  # type: ignore[arg-type]
        return RegistryClient(http, config, keychain or Keychain())

    yield make
    for http in opened:
        http.close()


@pytest.fixture
def client(connect: Callable[..., RegistryClient]) -> RegistryClient:
    return connect()


def reference(server: FaultyServer, name: str = "team/app:1") -> Reference:
    return Reference.parse(f"{server.host}/{name}")


def offer(server: FaultyServer, image: Image = IMAGE, repository: str = "team/app", tag: str = "1") -> None:
    """Let the server have an image, as a good registry has it."""
    root = Answer(headers={"Content-Type": image.descriptor.media_type}, body=image.raw)
    server.on("GET", f"/v2/{repository}/manifests/{tag}", root)
    for digest, data in image.blobs.items():
        server.on("GET", f"/v2/{repository}/blobs/{digest}", Answer(body=data, ranges=True))
        server.on("GET", f"/v2/{repository}/manifests/{digest}", Answer(body=data))


def read(stream: ByteStream) -> bytes:
    data = bytearray()
    while part := stream.read(1 << 18):
        data += part
    return bytes(data)


def read_blob(source: RegistrySource, descriptor: Descriptor) -> bytes:
    with source.open_blob(descriptor) as stream:
        return read(stream)


# ---- reading


def test_an_image_is_read_by_tag_and_then_by_digest(client: RegistryClient, server: FaultyServer) -> None:
    offer(server)
    source, copy = RegistrySource(reference(server), client), MemoryDestination()
    copy_image(source, copy)
    assert source.name == f"{server.host}/team/app:1"
    assert copy.blobs == IMAGE.blobs
    assert server.count("GET", "/v2/team/app/manifests/1") == 1
    accepted = server.requests[1].headers["accept"]
    assert all(kind in accepted for kind in (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))


def test_the_first_read_pins_the_tag(client: RegistryClient, server: FaultyServer) -> None:
    other = make_image([])
    offer(server)
    server.on("GET", "/v2/team/app/manifests/1", Answer(body=other.raw))
    source = RegistrySource(reference(server), client)
    assert source.root()[1] == source.root()[1] == IMAGE.raw


def test_a_reference_with_a_digest_needs_no_tag(client: RegistryClient, server: FaultyServer) -> None:
    offer(server)
    digest = IMAGE.descriptor.digest
    source = RegistrySource(reference(server, f"team/app:gone@{digest}"), client)
    assert source.root() == (replace(IMAGE.descriptor, platform=None), IMAGE.raw)


@pytest.mark.parametrize(
    ("content_type", "manifest", "found"),
    [
        ("application/octet-stream", {}, OCI_MANIFEST),
        (OCI_INDEX, {}, OCI_MANIFEST),
        (DOCKER_MANIFEST, {"mediaType": None}, DOCKER_MANIFEST),
        ("text/html", {"mediaType": None}, OCI_MANIFEST),
    ],
)
def test_the_document_says_what_it_is_and_the_registry_only_when_it_does_not(
    client: RegistryClient, server: FaultyServer, content_type: str, manifest: dict[str, object], found: str
) -> None:
    document = {**IMAGE.document, **manifest}
    raw = encode({name: value for name, value in document.items() if value is not None})
    answer = Answer(headers={"Content-Type": f"{content_type}; charset=utf-8"}, body=raw)
    server.on("GET", "/v2/team/app/manifests/1", answer)
    assert RegistrySource(reference(server), client).root()[0].media_type == found


def test_old_manifests_are_refused_by_name(client: RegistryClient, server: FaultyServer) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.on(
        "GET",
        "/v2/team/app/manifests/1",
        Answer(headers={"Content-Type": kind}, body=b'{"schemaVersion": 1, "name": "team/app"}'),
    )
    with pytest.raises(UnsupportedImageError, match="schema 1"):
        copy_image(RegistrySource(reference(server), client), MemoryDestination())


def test_a_tag_whose_bytes_are_not_what_the_registry_says_is_refused(
    client: RegistryClient, server: FaultyServer
) -> None:
    claim = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    server.on("GET", "/v2/team/app/manifests/1", Answer(headers=claim, body=IMAGE.raw))
    with pytest.raises(IntegrityError, match=f"the registry says sha256:0000.*the bytes are {IMAGE.descriptor.digest}"):
        RegistrySource(reference(server), client).root()


def test_a_manifest_with_another_digest_is_refused(client: RegistryClient, server: FaultyServer) -> None:
    wanted = IMAGE.descriptor
    changed = IMAGE.raw.replace(b"2", b"3", 1)
    server.on("GET", f"/v2/team/app/manifests/{wanted.digest}", Answer(body=changed))
    for name in ("team/app:1", f"team/app@{wanted.digest}"):
        source = RegistrySource(reference(server, name), client)
        with pytest.raises(IntegrityError, match=f"expected the digest {wanted.digest}") as caught:
            source.manifest(wanted) if source.reference.tag else source.root()
        assert str(caught.value).startswith(source.name)


def test_a_manifest_without_end_is_refused(client: RegistryClient, server: FaultyServer) -> None:
    server.on("GET", "/v2/team/app/manifests/1", Answer(body=b" " * (8 * 1024 * 1024 + 1)))
    with pytest.raises(IntegrityError, match="more than 8388608 bytes"):
        RegistrySource(reference(server), client).root()
    with pytest.raises(ImageError, match="too large for a manifest"):
        RegistrySource(reference(server), client).manifest(replace(IMAGE.descriptor, size=1 << 30))


def test_a_broken_blob_goes_on_where_it_broke(client: RegistryClient, server: FaultyServer) -> None:
    path = f"/v2/team/app/blobs/{LARGE_LAYER.digest}"
    server.on("GET", path, Answer(body=LARGE, cut=1_500_000), Answer(status=503), Answer(body=LARGE, ranges=True))
    assert read_blob(RegistrySource(reference(server), client), LARGE_LAYER) == LARGE
    start = int(re.sub(r"\D", "", server.requests[-1].headers["range"]))
    assert 1_000_000 < start <= 1_500_000


def test_a_blob_that_breaks_too_often_is_given_up(client: RegistryClient, server: FaultyServer) -> None:
    path = f"/v2/team/app/blobs/{LARGE_LAYER.digest}"
    server.on("GET", path, Answer(body=LARGE, cut=100, ranges=True))
    with pytest.raises(UnreachableError, match=f"team/app:1: blob {LARGE_LAYER.digest}.*middle of the answer"):
        read_blob(RegistrySource(reference(server), client), LARGE_LAYER)
    assert server.count("GET", path) == 3


@pytest.mark.parametrize("body", [LARGE[:-1], LARGE + b"x"])
def test_a_blob_of_another_size_is_refused(client: RegistryClient, server: FaultyServer, body: bytes) -> None:
    server.on("GET", f"/v2/team/app/blobs/{LARGE_LAYER.digest}", Answer(body=body))
    with pytest.raises(IntegrityError, match=f"team/app:1: blob {LARGE_LAYER.digest}.*has {len(body)} bytes"):
        read_blob(RegistrySource(reference(server), client), LARGE_LAYER)


def test_a_blob_that_ends_early_is_refused(client: RegistryClient, server: FaultyServer) -> None:
    server.on("GET", f"/v2/team/app/blobs/{LARGE_LAYER.digest}", Answer(body=LARGE[:-1], length=False))
    with pytest.raises(IntegrityError, match=f"ends after {len(LARGE) - 1} of {len(LARGE)} bytes"):
        read_blob(RegistrySource(reference(server), client), LARGE_LAYER)


def test_a_blob_with_other_bytes_does_not_get_through_a_copy(client: RegistryClient, server: FaultyServer) -> None:
    offer(server)
    server.on("GET", f"/v2/team/copy/blobs/{LARGE_LAYER.digest}", Answer(body=LARGE[::-1]))
    server.on("HEAD", f"/v2/team/new/blobs/{LARGE_LAYER.digest}", Answer(status=404))
    server.on("POST", "/v2/team/new/blobs/uploads/", Answer(status=202, headers={"Location": "/up"}))
    server.on("PUT", "/up", Answer(status=201))
    source = RegistrySource(reference(server, "team/copy:1"), client)
    with (
        pytest.raises(IntegrityError, match="has another digest"),
        RegistryDestination(reference(server, "team/new:1"), client) as destination,
    ):
        destination.copy_blob(LARGE_LAYER, source)


# ---- refusals


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, AuthenticationError, "the login is refused"),
        (403, AuthenticationError, "access is denied"),
        (404, NotFoundError, "not found"),
        (429, RateLimitedError, "too many requests, it says to come back after 3600 s"),
        (500, RegistryError, "the registry answers with status 500"),
        (503, RegistryError, "the registry answers with status 503"),
        (418, RegistryError, "the registry answers with status 418"),
    ],
)
def test_refusals_are_told_apart(
    client: RegistryClient, server: FaultyServer, status: int, kind: type[CopaError], words: str
) -> None:
    error = {"errors": [{"code": "SOME_CODE", "message": "a reason\n\x1b[31m of its own", "detail": "x"}]}
    answer = json_answer(error, status, Retry_After="3600")
    server.on("GET", "/v2/team/app/manifests/1", answer)
    server.on("GET", f"/v2/team/app/blobs/{SMALL_LAYER.digest}", answer)
    source = RegistrySource(reference(server), client)
    for attempt in (source.root, lambda: read_blob(source, SMALL_LAYER)):
        with pytest.raises(kind, match=re.escape(words)) as caught:
            attempt()
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"{server.host}/team/app:1: ")
        assert "(SOME_CODE: a reason \\x1b[31m of its own)" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b'{"errors": [{"code": "' + b"X" * 5_000 + b'"}]}', "application/json", "X" * 299 + "…"),
        (b"[" * 50_000, "application/json", ""),
        (b'{"errors": [1, null, []]}', "application/json", ""),
        (b'{"errors": {"code": 3}}', "application/json", ""),
        (b"go  away\n", "text/plain; charset=utf-8", "go away"),
        (b"<html>blocked</html>", "text/html", ""),
        (b"x" * 100_000, "text/plain", ""),
        (b"\xff\xfe", "text/plain", "\ufffd\ufffd"),
    ],
)
def test_what_a_registry_says_is_bounded(
    client: RegistryClient, server: FaultyServer, body: bytes, kind: str, words: str
) -> None:
    server.on("GET", "/v2/team/app/manifests/1", Answer(status=403, headers={"Content-Type": kind}, body=body))
    with pytest.raises(AuthenticationError) as caught:
        RegistrySource(reference(server), client).root()
    assert str(caught.value) == f"{server.host}/team/app:1: access is denied" + (f" ({words})" if words else "")


def test_an_unreachable_registry_is_named(client: RegistryClient) -> None:
    source = RegistrySource(Reference.parse("localhost:1/team/app:1"), client)
    with pytest.raises(UnreachableError, match=r"^localhost:1/team/app:1: http://localhost:1/v2/: connection refused$"):
        source.root()


def test_a_registry_that_is_silent_times_out(connect: Callable[..., RegistryClient], server: FaultyServer) -> None:
    server.on("GET", "/v2/team/app/manifests/1", Answer(delay=1.0))
    with pytest.raises(UnreachableError, match=r"team/app:1: .*no answer in time"):
        RegistrySource(reference(server), connect(read_timeout=0.1)).root()


def test_a_busy_registry_is_asked_again(client: RegistryClient, server: FaultyServer) -> None:
    busy = Answer(status=429, headers={"Retry-After": "1"})
    server.on("GET", "/v2/team/app/manifests/1", busy, Answer(status=502))
    offer(server)
    assert RegistrySource(reference(server), client).root()[1] == IMAGE.raw


# ---- logging in


def with_token(server: FaultyServer, token: str, answer: Answer) -> Callable[[Seen], Answer]:
    challenge = f'Bearer realm="{server.url}/token",service="s",scope="repository:team/app:pull"'

    def check(seen: Seen) -> Answer:
        if seen.headers.get("authorization") == f"Bearer {token}":
            return answer
        return Answer(status=401, headers={"WWW-Authenticate": challenge})

    return check


def test_a_token_is_fetched_once_for_many_requests(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    server.on("GET", "/v2/team/app/manifests/1", with_token(server, "t1", Answer(body=IMAGE.raw)))
    for digest, data in IMAGE.blobs.items():
        server.on("GET", f"/v2/team/app/blobs/{digest}", with_token(server, "t1", Answer(body=data)))
    server.on("POST", "/token", json_answer({"access_token": "t1"}))
    mine = Keychain(given={server.host: Credentials(identity_token="idt")})
    copy = MemoryDestination()
    copy_image(RegistrySource(reference(server), connect(keychain=mine)), copy)
    assert copy.published is not None
    assert server.count("POST", "/token") == 1


def test_an_expired_token_is_renewed_in_the_middle_of_a_blob(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    path = f"/v2/team/app/blobs/{LARGE_LAYER.digest}"
    server.on(
        "GET",
        path,
        with_token(server, "t1", Answer(body=LARGE)),
        with_token(server, "t1", Answer(body=LARGE, cut=2_000_000)),
        with_token(server, "t2", Answer(body=LARGE, ranges=True)),
    )
    server.on("GET", "/token", json_answer({"token": "t1"}), json_answer({"token": "t2"}))
    mine = Keychain(given={server.host: Credentials(username="ann", password="x")})
    assert read_blob(RegistrySource(reference(server), connect(keychain=mine)), LARGE_LAYER) == LARGE
    assert server.count("GET", "/token") == 2


def test_wrong_credentials_are_refused_after_one_try(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    server.on("GET", "/v2/team/app/manifests/1", Answer(status=401, headers=challenge))
    mine = Keychain(given={server.host: Credentials(username="ann", password="s3cret", origin="flag")})
    with pytest.raises(AuthenticationError, match="the login is refused") as caught:
        RegistrySource(reference(server), connect(keychain=mine)).root()
    assert server.count("GET", "/v2/team/app/manifests/1") == 2
    assert "s3cret" not in str(caught.value)


def test_a_login_that_is_missing_is_explained(client: RegistryClient, server: FaultyServer) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    server.on("GET", "/v2/team/app/manifests/1", Answer(status=401, headers=challenge))
    with pytest.raises(AuthenticationError, match="wants a login, and there are no credentials for it") as caught:
        RegistrySource(reference(server), client).root()
    assert "--authfile" in (caught.value.hint or "")


def test_a_redirect_to_storage_takes_no_login_along(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    mine = Keychain(given={server.host: Credentials(username="ann", password="x")})
    path = f"/v2/team/app/blobs/{LARGE_LAYER.digest}"
    with faulty_server() as storage:

        def check(seen: Seen) -> Answer:
            if "authorization" not in seen.headers:
                return Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
            return Answer(status=307, headers={"Location": f"{storage.url}/blob?signature=s"})

        server.on("GET", path, check)
        storage.on("GET", "/blob", Answer(body=LARGE, cut=1_000_000), Answer(body=LARGE, ranges=True))
        assert read_blob(RegistrySource(reference(server), connect(keychain=mine)), LARGE_LAYER) == LARGE
        assert all("authorization" not in seen.headers for seen in storage.requests)
    assert len(storage.requests) == 2
    assert server.count("GET", path) == 3


def test_a_login_is_not_sent_to_a_storage_host_that_asks_for_one(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    mine = Keychain(given={server.host: Credentials(username="ann", password="x")})
    with faulty_server() as storage:
        away = Answer(status=307, headers={"Location": f"{storage.url}/blob"})
        server.on("GET", f"/v2/team/app/blobs/{LARGE_LAYER.digest}", away)
        storage.on("GET", "/blob", Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
        with pytest.raises(AuthenticationError, match="the login is refused"):
            read_blob(RegistrySource(reference(server), connect(keychain=mine)), LARGE_LAYER)
        assert all("authorization" not in seen.headers for seen in storage.requests)


# ---- mirrors


def test_a_mirror_is_read_first_and_the_origin_is_left_alone(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    with registry() as mirror:
        offer(mirror, repository="cache/team/app")
        client = connect(mirrors=((server.host, f"{mirror.host}/cache"),))
        source, copy = RegistrySource(reference(server), client), MemoryDestination()
        copy_image(source, copy)
    assert copy.blobs == IMAGE.blobs
    assert source.name == f"{server.host}/team/app:1"
    assert server.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        Answer(status=401),
        Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"}),
        Answer(status=503),
        Answer(hang_up=True),
        Answer(headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"}, body=b"{}"),
    ],
)
def test_the_origin_serves_what_a_mirror_cannot(
    connect: Callable[..., RegistryClient], server: FaultyServer, answer: Answer
) -> None:
    offer(server)
    with registry() as mirror:
        mirror.on("GET", "*", answer)
        mirror.on("GET", "/v2/team/app/manifests/1", answer)
        client = connect(mirrors=((server.host, mirror.host),))
        copy = MemoryDestination()
        copy_image(RegistrySource(reference(server), client), copy)
        assert copy.blobs == IMAGE.blobs
        assert mirror.count("GET", "/v2/team/app/manifests/1") >= 1


def test_a_mirror_that_is_down_does_no_harm(connect: Callable[..., RegistryClient], server: FaultyServer) -> None:
    offer(server)
    client = connect(mirrors=((server.host, "localhost:1"), (server.host, "127.0.0.1:1")))
    assert RegistrySource(reference(server), client).root()[1] == IMAGE.raw


def test_a_mirror_that_loses_a_blob_is_left_for_the_origin(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    offer(server)
    with registry() as mirror:
        mirror.on("GET", f"/v2/team/app/blobs/{LARGE_LAYER.digest}", Answer(status=404))
        offer(mirror)
        client = connect(mirrors=((server.host, mirror.host),))
        source = RegistrySource(reference(server), client)
        source.root()
        assert read_blob(source, LARGE_LAYER) == LARGE


def test_a_mirror_gets_neither_the_login_of_the_origin_nor_a_push(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    mine = Keychain(given={server.host: Credentials(username="ann", password="x")})
    with registry() as mirror:
        mirror.on("GET", "*", Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
        client = connect(keychain=mine, mirrors=((server.host, mirror.host),))
        server.on("PUT", "/v2/team/app/manifests/1", Answer(status=201))
        with pytest.raises(NotFoundError):
            RegistrySource(reference(server), client).root()
        with RegistryDestination(reference(server), client) as destination:
            destination.publish(IMAGE.descriptor, IMAGE.raw)
        assert {seen.method for seen in mirror.requests} == {"GET"}
        assert all("authorization" not in seen.headers for seen in mirror.requests)


def test_when_mirror_and_origin_fail_the_origin_is_heard(
    connect: Callable[..., RegistryClient], server: FaultyServer
) -> None:
    with registry() as mirror:
        mirror.on("GET", "*", Answer(status=500))
        client = connect(mirrors=((server.host, mirror.host),))
        with pytest.raises(NotFoundError, match=f"{server.host}/team/app:1: not found"):
            RegistrySource(reference(server), client).root()


# ---- writing


class Store:
    """The writing half of a registry, with what goes wrong given per test."""

    def __init__(self, server: FaultyServer, repository: str = "team/new") -> None:
        self.server = server
        self.base = f"/v2/{repository}"
        self.received: dict[str, bytearray] = {}
        self.blobs: dict[str, bytes] = {}
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
        data = self.received[seen.path]
        start = int(seen.headers["content-range"].partition("-")[0])
        if start != len(data):
            return Answer(status=416, headers=self.range_of(seen.path))
        data += seen.body
        return Answer(status=202, headers=self.range_of(seen.path))

    def put(self, seen: Seen) -> Answer:
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


@pytest.fixture
def store(server: FaultyServer) -> Store:
    return Store(server)


def methods(server: FaultyServer) -> list[str]:
    return [seen.method for seen in server.requests if seen.path != "/v2/"]


def upload(client: RegistryClient, server: FaultyServer, data: bytes, tmp_path: Path) -> Descriptor:
    path = tmp_path / "blob"
    path.write_bytes(data)
    descriptor = describe(data, "application/octet-stream")
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.write_blob(descriptor, path)
    return descriptor


@pytest.fixture
def chunk(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("copacetic.oci.upload.CHUNK", 1 << 20)
    monkeypatch.setattr("copacetic.oci.upload.SMALL_CHUNK", 1 << 19)
    return 1 << 20


def test_a_small_blob_goes_in_one_piece(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    descriptor = upload(client, server, b"data", tmp_path)
    assert store.blobs == {str(descriptor.digest): b"data"}
    assert methods(server) == ["HEAD", "POST", "PUT"]
    assert server.requests[-1].headers["content-type"] == "application/octet-stream"
    assert server.requests[-1].headers["content-length"] == "4"


def test_an_empty_blob_can_be_written(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    assert str(upload(client, server, b"", tmp_path).digest) in store.blobs


def test_a_blob_that_is_there_is_not_sent(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    upload(client, server, b"data", tmp_path)
    server.requests.clear()
    upload(client, server, b"data", tmp_path)
    assert methods(server) == ["HEAD"]


@pytest.mark.parametrize("status", [302, 307])
def test_a_blob_in_a_storage_elsewhere_is_there(
    client: RegistryClient, server: FaultyServer, tmp_path: Path, status: int
) -> None:
    server.on("HEAD", "*", Answer(status=status, headers={"Location": "http://127.0.0.1:1/signed-for-get"}))
    upload(client, server, b"data", tmp_path)
    assert methods(server) == ["HEAD"]


@pytest.mark.parametrize(
    ("status", "kind"), [(403, AuthenticationError), (429, RateLimitedError), (500, RegistryError)]
)
def test_a_registry_that_cannot_look_is_an_error(
    client: RegistryClient, server: FaultyServer, tmp_path: Path, status: int, kind: type[CopaError]
) -> None:
    server.on("HEAD", "*", Answer(status=status))
    with pytest.raises(kind, match="team/new:2: looking for sha256:"):
        upload(client, server, b"data", tmp_path)


def test_a_large_blob_goes_in_chunks(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    data = LARGE + b"rest"
    descriptor = upload(client, server, data, tmp_path)
    assert store.blobs == {str(descriptor.digest): data}
    assert methods(server) == ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]
    sent = [seen.headers["content-range"] for seen in server.requests if seen.method == "PATCH"]
    assert sent == ["0-1048575", "1048576-2097151", "2097152-3145727", "3145728-3145731"]


def test_a_chunk_that_breaks_is_resumed_where_the_registry_got_to(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    def half(seen: Seen) -> Answer:
        store.received[seen.path] += seen.body[: chunk // 2]
        return Answer(hang_up=True)

    server.on("PATCH", "/uploads/0", store.patch, half, Answer(status=503), store.patch)
    descriptor = upload(client, server, LARGE, tmp_path)
    assert store.blobs == {str(descriptor.digest): LARGE}
    sent = [seen.headers["content-range"].partition("-")[0] for seen in server.requests if seen.method == "PATCH"]
    assert sent == ["0", "1048576", "1572864", "1572864", "2621440"]
    assert methods(server).count("POST") == 1


def test_a_registry_that_takes_less_than_a_chunk_gets_the_rest(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    def less(seen: Seen) -> Answer:
        store.received[seen.path] += seen.body[:-10]
        return Answer(status=202, headers=store.range_of(seen.path))

    server.on("PATCH", "/uploads/0", less, store.patch)
    descriptor = upload(client, server, LARGE, tmp_path)
    assert store.blobs == {str(descriptor.digest): LARGE}


def test_a_registry_that_claims_more_than_was_sent_is_refused(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    server.on("PATCH", "/uploads/0", Answer(status=202, headers={"Range": "0-99999999"}))
    with pytest.raises(RegistryError, match="claims to have 100000000"):
        upload(client, server, LARGE, tmp_path)
    assert methods(server)[-1] == "DELETE"


def test_an_upload_that_is_lost_starts_again(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    server.on("PATCH", "/uploads/0", store.patch, Answer(status=404))
    server.on("GET", "/uploads/0", Answer(status=404))
    descriptor = upload(client, server, LARGE, tmp_path)
    assert store.blobs == {str(descriptor.digest): LARGE}
    assert methods(server).count("POST") == 2


@pytest.mark.parametrize("failure", [Answer(status=500), Answer(hang_up=True), Answer(status=401)])
def test_an_upload_in_one_piece_is_tried_again(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, failure: Answer
) -> None:
    server.on("PUT", "/uploads/0", failure)
    descriptor = upload(client, server, b"data", tmp_path)
    assert store.blobs == {str(descriptor.digest): b"data"}
    assert methods(server).count("POST") == 2


def test_an_upload_that_never_works_is_given_up_and_cancelled(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    for number in range(3):
        server.on("PUT", f"/uploads/{number}", Answer(status=500))
    with pytest.raises(RegistryError, match=r"team/new:2: uploading sha256:.*status 500"):
        upload(client, server, b"data", tmp_path)
    assert methods(server).count("POST") == methods(server).count("DELETE") == 3


@pytest.mark.parametrize("status", [405, 413])
@pytest.mark.usefixtures("chunk")
def test_chunks_are_used_where_one_piece_is_too_large(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, status: int
) -> None:
    server.on("PUT", "/uploads/0", Answer(status=status))
    data = LARGE[: 700 * 1024]
    descriptor = upload(client, server, data, tmp_path)
    assert store.blobs == {str(descriptor.digest): data}
    assert methods(server).count("PATCH") == 2


def test_what_is_too_large_even_in_small_chunks_is_refused(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    for number in range(2):
        server.on("PATCH", f"/uploads/{number}", Answer(status=413))
    with pytest.raises(RegistryError, match="status 413"):
        upload(client, server, LARGE, tmp_path)


def test_the_least_chunk_of_a_registry_is_kept_to(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    def start(seen: Seen) -> Answer:
        answer = store.start(seen)
        return replace(answer, headers={**answer.headers, "OCI-Chunk-Min-Length": str(2 * chunk)})

    server.replace("POST", "/v2/team/new/blobs/uploads/", start)
    upload(client, server, LARGE, tmp_path)
    assert methods(server).count("PATCH") == 2


def test_wrong_bytes_are_refused_by_the_registry_once(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_bytes(b"data")
    wrong = describe(b"atad", "application/octet-stream")
    with (
        pytest.raises(RegistryError, match="DIGEST_INVALID"),
        RegistryDestination(reference(server, "team/new:2"), client) as destination,
    ):
        destination.write_blob(wrong, tmp_path / "blob")
    assert methods(server).count("PUT") == 1


def test_a_local_file_that_is_not_as_described_is_never_sent(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_bytes(b"data")
    destination = RegistryDestination(reference(server, "team/new:2"), client)
    with pytest.raises(IntegrityError, match="has 4 bytes instead of the 5"):
        destination.write_blob(describe(b"12345", "x/y"), tmp_path / "blob")
    with pytest.raises(StorageError, match="no such file"):
        destination.write_blob(describe(b"1", "x/y"), tmp_path / "absent")
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer(status=401), AuthenticationError, "the login is refused"),
        (Answer(status=403), AuthenticationError, "access is denied"),
        (Answer(status=404), NotFoundError, "not found"),
        (Answer(status=202), RegistryError, "doesn't say where"),
        (Answer(status=202, headers={"Location": "ftp://x/"}), UnreachableError, "not an http or https address"),
    ],
)
def test_a_registry_that_takes_no_upload_is_named(
    client: RegistryClient, server: FaultyServer, answer: Answer, kind: type[CopaError], message: str
) -> None:
    server.on("HEAD", "*", Answer(status=404))
    server.on("POST", "/v2/team/new/blobs/uploads/", answer)
    with (
        pytest.raises(kind, match=message),
        RegistryDestination(reference(server, "team/new:2"), client) as destination,
    ):
        destination.copy_blob(SMALL_LAYER, MemorySource(IMAGE))


def test_an_upload_elsewhere_gets_no_login(
    connect: Callable[..., RegistryClient], server: FaultyServer, tmp_path: Path
) -> None:
    mine = Keychain(given={server.host: Credentials(username="ann", password="x")})
    server.on("HEAD", "*", Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"}), Answer(status=404))
    with faulty_server() as storage:
        started = Answer(status=202, headers={"Location": f"{storage.url}/bucket?signature=s"})
        server.on("POST", "/v2/team/new/blobs/uploads/", started)
        storage.on("PUT", "/bucket", Answer(status=201))
        upload(connect(keychain=mine), server, b"data", tmp_path)
        (seen,) = storage.requests
    assert "authorization" not in seen.headers
    assert seen.query["signature"] == "s"
    assert server.requests[-1].headers["authorization"].startswith("Basic ")


# ---- mounting


def test_a_blob_of_the_same_registry_is_mounted(client: RegistryClient, server: FaultyServer, store: Store) -> None:
    offer(server)
    server.replace("POST", "/v2/team/new/blobs/uploads/", Answer(status=201))
    source = RegistrySource(reference(server), client)
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, source)
    assert methods(server) == ["POST"]
    assert server.requests[-1].query == {"mount": str(LARGE_LAYER.digest), "from": "team/app"}


@pytest.mark.parametrize("status", [202, 400, 401, 403, 404, 405, 500])
def test_a_blob_that_cannot_be_mounted_is_copied(
    client: RegistryClient, server: FaultyServer, store: Store, status: int
) -> None:
    def refuse(seen: Seen) -> Answer:
        if "mount" in seen.query and status != 202:
            return Answer(status=status)
        return store.start(seen)

    offer(server)
    server.replace("POST", "/v2/team/new/blobs/uploads/", refuse)
    source = RegistrySource(reference(server), client)
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, source)
    assert store.blobs == {str(LARGE_LAYER.digest): LARGE}
    if status == 202:
        assert methods(server).count("POST") == 1


def test_a_blob_of_the_same_repository_is_there_already(
    client: RegistryClient, server: FaultyServer, store: Store
) -> None:
    store.blobs[str(LARGE_LAYER.digest)] = LARGE
    source = RegistrySource(reference(server, "team/new:1"), client)
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, source)
    assert methods(server) == ["HEAD"]


def test_a_mount_asks_for_both_repositories(connect: Callable[..., RegistryClient], server: FaultyServer) -> None:
    challenge = f'Bearer realm="{server.url}/token",service="s"'
    server.on("GET", "/token", json_answer({"token": "t"}))
    server.on(
        "POST",
        "/v2/team/new/blobs/uploads/",
        Answer(status=401, headers={"WWW-Authenticate": challenge}),
        Answer(status=201),
    )
    client = connect()
    source = RegistrySource(reference(server), client)
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, source)
    asked = next(seen for seen in server.requests if seen.path == "/token")
    assert asked.query["scope"] == "repository:team/new:pull,push"  # the last of the two


# ---- copying


def test_a_large_blob_is_copied_across_registries_in_spite_of_breaks(
    client: RegistryClient, server: FaultyServer, chunk: int
) -> None:
    path = f"/v2/team/app/blobs/{LARGE_LAYER.digest}"
    with registry() as target:
        store = Store(target)
        server.on("GET", path, Answer(body=LARGE, cut=1_500_000), Answer(body=LARGE, ranges=True))

        def half(seen: Seen) -> Answer:
            store.received[seen.path] += seen.body[: chunk // 2]
            return Answer(hang_up=True)

        target.on("PATCH", "/uploads/0", store.patch, half, store.patch)
        with RegistryDestination(reference(target, "team/new:2"), client) as destination:
            destination.copy_blob(LARGE_LAYER, RegistrySource(reference(server), client))
        assert store.blobs == {str(LARGE_LAYER.digest): LARGE}


def test_a_source_that_lies_about_a_size_is_refused(client: RegistryClient, server: FaultyServer, store: Store) -> None:
    class Short(MemorySource):
        @contextmanager
        def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
            yield io.BytesIO(LARGE[:1000])

    with (
        pytest.raises(IntegrityError, match="ends after 1000 of"),
        RegistryDestination(reference(server, "team/new:2"), client) as destination,
    ):
        destination.copy_blob(LARGE_LAYER, Short(IMAGE))
    assert store.blobs == {}
    assert methods(server)[-1] == "DELETE"


def test_a_blob_wanted_by_several_threads_is_sent_once(
    client: RegistryClient, server: FaultyServer, store: Store
) -> None:
    with RegistryDestination(reference(server, "team/new:2"), client) as destination, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: destination.copy_blob(LARGE_LAYER, MemorySource(IMAGE)), range(6)))
    assert methods(server).count("PUT") == 1


# ---- publishing


def test_publishing_writes_the_tag_and_returns_the_pinned_name(client: RegistryClient, server: FaultyServer) -> None:
    digest = IMAGE.descriptor.digest
    server.on("PUT", "/v2/team/new/manifests/2", Answer(status=201, headers={"Docker-Content-Digest": str(digest)}))
    server.on("PUT", f"/v2/team/new/manifests/{digest}", Answer(status=201))
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.write_manifest(IMAGE.descriptor, IMAGE.raw)
        assert destination.publish(IMAGE.descriptor, IMAGE.raw) == f"{server.host}/team/new:2@{digest}"
    child, root = server.requests[-2:]
    assert (child.body, root.body) == (IMAGE.raw, IMAGE.raw)
    assert child.path.endswith(str(digest))
    assert root.headers["content-type"] == OCI_MANIFEST


def test_publishing_is_tried_again(client: RegistryClient, server: FaultyServer) -> None:
    server.on("PUT", "/v2/team/new/manifests/2", Answer(hang_up=True), Answer(status=503), Answer(status=201))
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.publish(IMAGE.descriptor, IMAGE.raw)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (json_answer({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}, 400), RegistryError, "MANIFEST_BLOB_UNKNOWN"),
        (Answer(status=403), AuthenticationError, "access is denied"),
        (
            Answer(status=201, headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"}),
            IntegrityError,
            "the registry says sha256:000",
        ),
    ],
)
def test_a_publication_that_is_refused_is_named(
    client: RegistryClient, server: FaultyServer, answer: Answer, kind: type[CopaError], message: str
) -> None:
    server.on("PUT", "/v2/team/new/manifests/2", answer)
    with (
        pytest.raises(kind, match=f"^{server.host}/team/new:2: .*{message}"),
        RegistryDestination(reference(server, "team/new:2"), client) as destination,
    ):
        destination.publish(IMAGE.descriptor, IMAGE.raw)


def test_wrong_bytes_are_never_published(client: RegistryClient, server: FaultyServer) -> None:
    with (
        pytest.raises(IntegrityError),
        RegistryDestination(reference(server, "team/new:2"), client) as destination,
    ):
        destination.publish(IMAGE.descriptor, IMAGE.raw + b" ")
    assert methods(server) == []


def test_an_image_is_not_written_to_a_digest(client: RegistryClient) -> None:
    for name in (f"registry.example/a@{Digest.of(b'')}", f"registry.example/a:1@{Digest.of(b'')}"):
        with pytest.raises(UsageError, match="can't be written to a digest"):
            RegistryDestination(Reference.parse(name), client)
