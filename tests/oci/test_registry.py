# SPDX-License-Identifier: Apache-2.0
"""Reading from a registry that answers as told; see `test_registry_system` for a real one."""

from __future__ import annotations

import gzip
import re

import pytest

from copacetic.errors import (
    AuthenticationError,
    CopaError,
    ImageError,
    IntegrityError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    UnreachableError,
    UnsupportedImageError,
)
from copacetic.oci.manifest import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from copacetic.oci.reference import Reference
from copacetic.oci.registry import RegistryDestination, RegistrySource
from copacetic.oci.registryclient import RegistryClient
from support.image.images import MemoryDestination, copy_image, encode, make_image
from support.server.faulty import Answer, FaultyServer, json_answer
from support.server.scripted import (
    IMAGE,
    LARGE,
    LARGE_LAYER,
    SMALL_LAYER,
    Connect,
    offer,
    read_blob,
    reference,
)
from support.value.replacing import replace


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


def test_a_manifest_that_was_compressed_on_the_way_is_read(client: RegistryClient, server: FaultyServer) -> None:
    coding = {"Content-Encoding": "gzip", "Content-Type": IMAGE.descriptor.media_type}
    server.on("GET", "/v2/team/app/manifests/1", Answer(headers=coding, body=gzip.compress(IMAGE.raw)))
    server.on("GET", "/v2/team/app/manifests/bomb", Answer(headers=coding, body=gzip.compress(b" " * (9 << 20))))
    server.on("GET", "/v2/team/app/manifests/cut", Answer(headers=coding, body=gzip.compress(IMAGE.raw)[:-9]))
    descriptor, raw = RegistrySource(reference(server), client).root()
    assert (descriptor.digest, raw) == (IMAGE.descriptor.digest, IMAGE.raw)
    for tag in ("bomb", "cut"):
        with pytest.raises(ImageError, match=f"team/app:{tag}: the manifest can't be decompressed"):
            RegistrySource(reference(server, f"team/app:{tag}"), client).root()


def test_what_is_no_manifest_is_named_with_who_sent_it(client: RegistryClient, server: FaultyServer) -> None:
    page = Answer(headers={"Content-Type": "text/html"}, body=b"<html>log in</html>")
    server.on("GET", "/v2/team/app/manifests/1", page)
    with pytest.raises(ImageError, match=r"team/app:1: the manifest is not JSON.* is of text/html"):
        RegistrySource(reference(server), client).root()


def test_a_manifest_without_end_is_refused(client: RegistryClient, server: FaultyServer) -> None:
    server.on("GET", "/v2/team/app/manifests/1", Answer(body=b" " * (4 * 1024 * 1024 + 1)))
    with pytest.raises(IntegrityError, match="more than 4194304 bytes"):
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


def test_a_registry_that_is_silent_times_out(connect: Connect, server: FaultyServer) -> None:
    server.on("GET", "/v2/team/app/manifests/1", Answer(delay=1.0))
    with pytest.raises(UnreachableError, match=r"team/app:1: .*no answer in time"):
        RegistrySource(reference(server), connect(read_timeout=0.1)).root()


def test_a_busy_registry_is_asked_again(client: RegistryClient, server: FaultyServer) -> None:
    busy = Answer(status=429, headers={"Retry-After": "1"})
    server.on("GET", "/v2/team/app/manifests/1", busy, Answer(status=502))
    offer(server)
    assert RegistrySource(reference(server), client).root()[1] == IMAGE.raw
