# SPDX-License-Identifier: Apache-2.0
"""Uploads to a registry that answers as told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from copacetic.errors import (
    AuthenticationError,
    CopaError,
    IntegrityError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    StorageError,
    UnreachableError,
)
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.registry import RegistryDestination
from copacetic.oci.registryclient import RegistryClient
from support.image.images import MemorySource, describe
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer
from support.server.scripted import (
    IMAGE,
    LARGE,
    SMALL_LAYER,
    Connect,
    Store,
    reference,
    sent_methods,
)
from support.value.replacing import replace


def upload(client: RegistryClient, server: FaultyServer, data: bytes, tmp_path: Path) -> Descriptor:
    path = tmp_path / "blob"
    path.write_bytes(data)
    descriptor = describe(data, "application/octet-stream")
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        destination.write_blob(descriptor, path)
    return descriptor


def test_a_small_blob_goes_in_one_piece(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    descriptor = upload(client, server, b"data", tmp_path)
    assert store.blobs == {str(descriptor.digest): b"data"}
    assert sent_methods(server) == ["HEAD", "POST", "PUT"]
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
    assert sent_methods(server) == ["HEAD"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("answer", [Answer(), Answer(status=206, body=b"d")])
def test_a_blob_in_a_storage_elsewhere_is_there_when_it_can_be_read(
    client: RegistryClient, server: FaultyServer, tmp_path: Path, status: int, answer: Answer
) -> None:
    with faulty_server() as storage:
        storage.on("GET", "/signed-for-get", answer)
        away = Answer(status=status, headers={"Location": f"{storage.url}/signed-for-get"})
        for method in ("HEAD", "GET"):
            server.on(method, "*", away)
        upload(client, server, b"data", tmp_path)
        assert storage.requests[0].headers["range"] == "bytes=0-0"
    assert sent_methods(server) == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("refusal", [401, 403, 404, 405, 500, 0])
def test_a_redirect_is_no_proof_that_a_blob_is_there(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, status: int, refusal: int
) -> None:
    with faulty_server() as elsewhere:
        elsewhere.on("GET", "*", Answer(status=refusal) if refusal else Answer(hang_up=True))
        away = Answer(status=status, headers={"Location": f"{elsewhere.url}/blob"})
        server.replace("HEAD", "*", away)
        server.on("GET", "*", away)
        descriptor = upload(client, server, b"data", tmp_path)
    assert store.blobs == {str(descriptor.digest): b"data"}


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
    assert sent_methods(server) == ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]
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
    assert sent_methods(server).count("POST") == 1


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
    assert sent_methods(server)[-1] == "DELETE"


def test_an_upload_that_is_lost_starts_again(
    client: RegistryClient, server: FaultyServer, store: Store, chunk: int, tmp_path: Path
) -> None:
    server.on("PATCH", "/uploads/0", store.patch, Answer(status=404))
    server.on("GET", "/uploads/0", Answer(status=404))
    descriptor = upload(client, server, LARGE, tmp_path)
    assert store.blobs == {str(descriptor.digest): LARGE}
    assert sent_methods(server).count("POST") == 2


@pytest.mark.parametrize("failure", [Answer(status=500), Answer(hang_up=True), Answer(status=401)])
def test_an_upload_in_one_piece_is_tried_again(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, failure: Answer
) -> None:
    server.on("PUT", "/uploads/0", failure)
    descriptor = upload(client, server, b"data", tmp_path)
    assert store.blobs == {str(descriptor.digest): b"data"}
    assert sent_methods(server).count("POST") == 2


def test_an_upload_that_never_works_is_given_up_and_cancelled(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    for number in range(3):
        server.on("PUT", f"/uploads/{number}", Answer(status=500))
    with pytest.raises(RegistryError, match=r"team/new:2: uploading sha256:.*status 500"):
        upload(client, server, b"data", tmp_path)
    assert sent_methods(server).count("POST") == sent_methods(server).count("DELETE") == 3


@pytest.mark.parametrize("status", [405, 413])
@pytest.mark.usefixtures("chunk")
def test_chunks_are_used_where_one_piece_is_too_large(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, status: int
) -> None:
    server.on("PUT", "/uploads/0", Answer(status=status))
    data = LARGE[: 700 * 1024]
    descriptor = upload(client, server, data, tmp_path)
    assert store.blobs == {str(descriptor.digest): data}
    assert sent_methods(server).count("PATCH") == 2


def only(*kinds: str, status: int = 405) -> Callable[[Seen], Answer | None]:
    """Refuse content that comes in other ways than these: `PUT`, `PATCH`, or `endless` for a PATCH without a range."""

    def refuse(seen: Seen) -> Answer | None:
        kind = "endless" if seen.method == "PATCH" and "content-range" not in seen.headers else seen.method
        return Answer(status=status) if seen.body and kind not in kinds else None

    return refuse


@pytest.mark.parametrize("status", [400, 405, 411, 415, 501])
@pytest.mark.parametrize("way", ["PUT", "PATCH", "endless"])
@pytest.mark.parametrize("size", [1000, len(LARGE)])
@pytest.mark.usefixtures("chunk")
def test_a_registry_that_knows_one_way_to_upload_gets_everything_in_that_way(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, status: int, way: str, size: int
) -> None:
    store.refuse = only(way, status=status)
    descriptor = upload(client, server, LARGE[:size], tmp_path)
    assert store.blobs == {str(descriptor.digest): LARGE[:size]}


@pytest.mark.parametrize("status", [404, 416])
@pytest.mark.usefixtures("chunk")
def test_where_nothing_was_sent_before_a_refused_chunk_is_not_lost(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, status: int
) -> None:
    store.refuse = only("PUT", status=status)
    upload(client, server, LARGE, tmp_path)
    assert [method for method in sent_methods(server) if method in {"PATCH", "PUT"}] == ["PATCH", "PUT"]


def test_a_registry_that_knows_no_way_is_an_error_after_each_was_tried_once(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    store.refuse = only()
    with pytest.raises(RegistryError, match="status 405"):
        upload(client, server, b"data", tmp_path)
    assert [method for method in sent_methods(server) if method in {"PATCH", "PUT"}] == ["PUT", "PATCH", "PATCH"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.usefixtures("chunk")
def test_content_follows_where_the_registry_wants_it(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path, method: str, status: int
) -> None:
    def away(seen: Seen) -> Answer | None:
        if seen.method != method or "moved" in seen.query:
            return None
        return Answer(status=status, headers={"Location": f"{seen.path}?{seen.raw_query}&moved=1"})

    store.refuse = away
    data = LARGE if method == "PATCH" else b"data"
    descriptor = upload(client, server, data, tmp_path)
    assert store.blobs == {str(descriptor.digest): data}


@pytest.mark.usefixtures("chunk")
def test_a_login_that_runs_out_before_the_last_request_costs_one_request(
    connect: Connect, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    asked = Answer(status=401, headers={"WWW-Authenticate": f'Bearer realm="{server.url}/token"'})
    server.on("GET", "/token", *(json_answer({"token": f"t{number}"}) for number in range(2)))
    old = "Bearer t0"

    def runs_out(seen: Seen) -> Answer | None:
        valid = "Bearer t1" if seen.method == "PUT" else old
        return None if seen.headers.get("authorization") == valid else asked

    store.refuse = runs_out
    descriptor = upload(connect(), server, LARGE, tmp_path)
    assert store.blobs == {str(descriptor.digest): LARGE}
    assert sent_methods(server).count("POST") == 1


@pytest.mark.usefixtures("chunk")
def test_a_last_request_that_fails_in_passing_is_repeated_and_not_the_content(
    client: RegistryClient, server: FaultyServer, store: Store, tmp_path: Path
) -> None:
    failures = [Answer(status=503), Answer(status=429)]
    store.refuse = lambda seen: failures.pop() if seen.method == "PUT" and failures else None
    upload(client, server, LARGE, tmp_path)
    assert sent_methods(server).count("POST") == 1


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
    assert sent_methods(server).count("PATCH") == 2


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
    assert sent_methods(server).count("PUT") == 1


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
        pytest.raises(kind, match=message) as caught,
        RegistryDestination(reference(server, "team/new:2"), client) as destination,
    ):
        destination.copy_blob(SMALL_LAYER, MemorySource(IMAGE))
    assert ("want the repository to be made first" in str(caught.value.hint)) is (answer.status == 404)


def test_an_upload_elsewhere_gets_no_login(connect: Connect, server: FaultyServer, tmp_path: Path) -> None:
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
