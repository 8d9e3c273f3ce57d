# SPDX-License-Identifier: Apache-2.0
"""Mounting, copying and publishing with registries that answer as told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from copacetic.errors import (
    AuthenticationError,
    CopaError,
    IntegrityError,
    RegistryError,
    UsageError,
)
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.manifest import OCI_MANIFEST
from copacetic.oci.reference import Reference
from copacetic.oci.registry import RegistryDestination, RegistrySource
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.transport import ByteStream
from support.image.images import MemorySource
from support.server.faulty import Answer, FaultyServer, Seen, json_answer
from support.server.scripted import (
    IMAGE,
    LARGE,
    LARGE_LAYER,
    Connect,
    Store,
    offer,
    reference,
    registry,
    sent_methods,
)

# ---- mounting


def test_a_blob_of_the_same_registry_is_mounted(client: RegistryClient, server: FaultyServer, store: Store) -> None:
    offer(server)
    server.replace("POST", "/v2/team/new/blobs/uploads/", Answer(status=201))
    source = RegistrySource(reference(server), client)
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, source)
    assert sent_methods(server) == ["POST"]
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
        assert sent_methods(server).count("POST") == 1


def test_a_blob_of_the_same_repository_is_there_already(
    client: RegistryClient, server: FaultyServer, store: Store
) -> None:
    store.blobs[str(LARGE_LAYER.digest)] = LARGE
    source = RegistrySource(reference(server, "team/new:1"), client)
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, source)
    assert sent_methods(server) == ["HEAD"]


def test_a_mount_asks_for_both_repositories(connect: Connect, server: FaultyServer) -> None:
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


def test_an_upload_that_a_refused_mount_began_is_cancelled_when_the_blob_is_there(
    client: RegistryClient, server: FaultyServer, store: Store
) -> None:
    store.blobs[str(LARGE_LAYER.digest)] = LARGE
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.copy_blob(LARGE_LAYER, RegistrySource(reference(server), client))
    assert sent_methods(server) == ["POST", "HEAD", "DELETE"]


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
    assert "DELETE" in sent_methods(
        server
    )  # the server notes a request when its body has ended, so the order says nothing


def test_a_blob_wanted_by_several_threads_is_sent_once(
    client: RegistryClient, server: FaultyServer, store: Store
) -> None:
    with RegistryDestination(reference(server, "team/new:2"), client) as destination, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: destination.copy_blob(LARGE_LAYER, MemorySource(IMAGE)), range(6)))
    assert sent_methods(server).count("PUT") == 1


# ---- publishing


def test_publishing_writes_the_tag_and_returns_the_pinned_name(client: RegistryClient, server: FaultyServer) -> None:
    digest = IMAGE.descriptor.digest
    server.on("PUT", "/v2/team/new/manifests/2", Answer(status=201, headers={"Docker-Content-Digest": str(digest)}))
    server.on("PUT", f"/v2/team/new/manifests/{digest}", Answer(status=201))
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.write_manifest(IMAGE.descriptor, IMAGE.raw)
        published = destination.publish(IMAGE.descriptor, IMAGE.raw)
        assert published.reference == f"{server.host}/team/new:2@{digest}"
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
    assert sent_methods(server) == []


def test_an_image_is_not_written_to_a_digest(client: RegistryClient) -> None:
    for name in (f"registry.example/a@{Digest.of(b'')}", f"registry.example/a:1@{Digest.of(b'')}"):
        with pytest.raises(UsageError, match="can't be written to a digest"):
            RegistryDestination(Reference.parse(name), client)
