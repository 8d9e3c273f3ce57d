# SPDX-License-Identifier: Apache-2.0
"""Logins, mirrors and TLS with registries that answer as told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from copacetic.errors import (
    AuthenticationError,
    NotFoundError,
    UnreachableError,
)
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.registry import RegistryDestination, RegistrySource
from copacetic.oci.registryclient import RegistryClient
from support.image.images import MemoryDestination, copy_image
from support.server.certificate import make_certificate
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer
from support.server.scripted import (
    IMAGE,
    LARGE,
    LARGE_LAYER,
    Connect,
    offer,
    read_blob,
    reference,
    registry,
)

# ---- logging in


def with_token(server: FaultyServer, token: str, answer: Answer) -> Callable[[Seen], Answer]:
    challenge = f'Bearer realm="{server.url}/token",service="s",scope="repository:team/app:pull"'

    def check(seen: Seen) -> Answer:
        if seen.headers.get("authorization") == f"Bearer {token}":
            return answer
        return Answer(status=401, headers={"WWW-Authenticate": challenge})

    return check


def hidden(status: int, answer: Answer) -> Callable[[Seen], Answer]:
    return lambda seen: answer if seen.headers.get("authorization", "").startswith("Basic ") else Answer(status=status)


@pytest.mark.parametrize("status", [403, 404])
def test_a_registry_that_hides_from_strangers_is_told_who_asks(
    connect: Connect, server: FaultyServer, status: int
) -> None:
    challenge = Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    server.replace("GET", "/v2/", Answer(), challenge)  # the first question is whether it speaks plain HTTP
    server.on("GET", "/v2/team/app/manifests/1", hidden(status, Answer(body=IMAGE.raw)))
    for digest, data in IMAGE.blobs.items():
        server.on("GET", f"/v2/team/app/blobs/{digest}", hidden(status, Answer(body=data)))
    mine = Keychain(given={server.host: Credentials(username="ann", password="pw")})
    copy = MemoryDestination()
    copy_image(RegistrySource(reference(server), connect(keychain=mine)), copy)
    assert copy.published is not None
    assert server.count("GET", "/v2/") == 2


@pytest.mark.parametrize("known", [False, True])
def test_what_an_open_registry_doesn_t_have_is_asked_for_once_without_a_login(
    connect: Connect, server: FaultyServer, *, known: bool
) -> None:
    given = {server.host: Credentials(username="ann", password="pw")} if known else {}
    with pytest.raises(NotFoundError):
        RegistrySource(reference(server), connect(keychain=Keychain(given=given))).root()
    assert server.count("GET", "/v2/team/app/manifests/1") == 1
    assert server.count("GET", "/v2/") == 1 + known


def test_a_token_is_fetched_once_for_many_requests(connect: Connect, server: FaultyServer) -> None:
    server.on("GET", "/v2/team/app/manifests/1", with_token(server, "t1", Answer(body=IMAGE.raw)))
    for digest, data in IMAGE.blobs.items():
        server.on("GET", f"/v2/team/app/blobs/{digest}", with_token(server, "t1", Answer(body=data)))
    server.on("POST", "/token", json_answer({"access_token": "t1"}))
    mine = Keychain(given={server.host: Credentials(identity_token="idt")})
    copy = MemoryDestination()
    copy_image(RegistrySource(reference(server), connect(keychain=mine)), copy)
    assert copy.published is not None
    assert server.count("POST", "/token") == 1


def test_an_expired_token_is_renewed_in_the_middle_of_a_blob(connect: Connect, server: FaultyServer) -> None:
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


def test_wrong_credentials_are_refused_after_one_try(connect: Connect, server: FaultyServer) -> None:
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


def test_a_redirect_to_storage_takes_no_login_along(connect: Connect, server: FaultyServer) -> None:
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


def test_a_login_is_not_sent_to_a_storage_host_that_asks_for_one(connect: Connect, server: FaultyServer) -> None:
    mine = Keychain(given={server.host: Credentials(username="ann", password="x")})
    with faulty_server() as storage:
        away = Answer(status=307, headers={"Location": f"{storage.url}/blob"})
        server.on("GET", f"/v2/team/app/blobs/{LARGE_LAYER.digest}", away)
        storage.on("GET", "/blob", Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"}))
        with pytest.raises(AuthenticationError, match="the login is refused"):
            read_blob(RegistrySource(reference(server), connect(keychain=mine)), LARGE_LAYER)
        assert all("authorization" not in seen.headers for seen in storage.requests)


# ---- mirrors


def test_a_mirror_is_read_first_and_the_origin_is_left_alone(connect: Connect, server: FaultyServer) -> None:
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
def test_the_origin_serves_what_a_mirror_cannot(connect: Connect, server: FaultyServer, answer: Answer) -> None:
    offer(server)
    with registry() as mirror:
        mirror.on("GET", "*", answer)
        mirror.on("GET", "/v2/team/app/manifests/1", answer)
        client = connect(mirrors=((server.host, mirror.host),))
        copy = MemoryDestination()
        copy_image(RegistrySource(reference(server), client), copy)
        assert copy.blobs == IMAGE.blobs
        assert mirror.count("GET", "/v2/team/app/manifests/1") >= 1


def test_a_mirror_that_is_down_does_no_harm(connect: Connect, server: FaultyServer) -> None:
    offer(server)
    client = connect(mirrors=((server.host, "localhost:1"), (server.host, "127.0.0.1:1")))
    assert RegistrySource(reference(server), client).root()[1] == IMAGE.raw


def test_a_mirror_that_loses_a_blob_is_left_for_the_origin(connect: Connect, server: FaultyServer) -> None:
    offer(server)
    with registry() as mirror:
        mirror.on("GET", f"/v2/team/app/blobs/{LARGE_LAYER.digest}", Answer(status=404))
        offer(mirror)
        client = connect(mirrors=((server.host, mirror.host),))
        source = RegistrySource(reference(server), client)
        source.root()
        assert read_blob(source, LARGE_LAYER) == LARGE


def test_a_mirror_gets_neither_the_login_of_the_origin_nor_a_push(connect: Connect, server: FaultyServer) -> None:
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


def test_when_mirror_and_origin_fail_the_origin_is_heard(connect: Connect, server: FaultyServer) -> None:
    with registry() as mirror:
        mirror.on("GET", "*", Answer(status=500))
        client = connect(mirrors=((server.host, mirror.host),))
        with pytest.raises(NotFoundError, match=f"{server.host}/team/app:1: not found"):
            RegistrySource(reference(server), client).root()


# ---- TLS on loopback


def test_tls_on_loopback_is_found_where_plain_http_is_not_answered(connect: Connect, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with faulty_server(tls=certificate.server_context()) as secure:
        offer(secure)
        with pytest.raises(UnreachableError, match="signed by an unknown authority"):
            RegistrySource(reference(secure), connect()).root()
        assert RegistrySource(reference(secure), connect(cert_dir=tmp_path)).root()[1] == IMAGE.raw
