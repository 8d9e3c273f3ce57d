# SPDX-License-Identifier: Apache-2.0
"""Requests, retries and redirects."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from copacetic.errors import IntegrityError, UnreachableError
from copacetic.http import HttpClient, HttpSettings
from copacetic.http.address import show_address
from copacetic.http.retry import LONGEST_PAUSE, backoff, parse_retry_after
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


class Pauses(list[float]):
    """Records instead of sleeping."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(pauses: Pauses) -> Iterator[HttpClient]:
    with HttpClient(HttpSettings(connect_timeout=2, read_timeout=2, retries=3), sleep=pauses) as made:
        yield made


def read(client: HttpClient, url: str, **headers: str) -> tuple[int, bytes]:
    with client.open("GET", url, headers=headers) as response:
        return response.status, response.read_all(1 << 21)


def test_importing_loads_neither_urllib3_nor_ssl() -> None:
    code = "import sys, copacetic.http; print([m for m in ('urllib3', 'ssl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- requests and connections


def test_a_request_carries_its_method_headers_and_body(client: HttpClient, server: FaultyServer) -> None:
    server.on("PUT", "/thing", Answer(status=201, headers={"X-Answer": "yes"}))
    with client.open("PUT", server.url + "/thing?a=1%3D2", headers={"X-Ask": "please"}, body=b"data") as response:
        assert (response.status, response.headers["x-answer"]) == (201, "yes")
    (seen,) = server.requests
    assert (seen.query, seen.headers["x-ask"], seen.body) == ({"a": "1=2"}, "please", b"data")
    assert seen.headers["user-agent"] == "copacetic"
    assert seen.headers["accept-encoding"] == "identity"


def test_a_body_that_is_an_iterable_is_sent_with_its_length(client: HttpClient, server: FaultyServer) -> None:
    server.on("PUT", "/thing", Answer(status=201))
    with client.open("PUT", server.url + "/thing", headers={"Content-Length": "4"}, body=iter([b"da", b"ta"])):
        pass
    assert server.requests[0].body == b"data"
    assert "transfer-encoding" not in server.requests[0].headers


def test_an_encoded_body_stays_encoded(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/f.gz", Answer(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b not even gzip"))
    assert read(client, server.url + "/f.gz") == (200, b"\x1f\x8b not even gzip")


def test_connections_are_used_again(client: HttpClient, server: FaultyServer) -> None:
    ports = set()

    def note(seen: Seen) -> Answer:
        ports.add(threading.get_ident())  # the server has one thread per connection
        return Answer(body=b"x")

    server.on("GET", "/", note)
    server.on("HEAD", "/", note)
    for _ in range(3):
        read(client, server.url + "/")
        client.open("HEAD", server.url + "/").close()
    assert len(ports) == 1


def test_a_body_over_the_limit_is_refused(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(body=b"x" * 11))
    with client.open("GET", server.url + "/") as response:
        assert response.read_all(11) == b"x" * 11
    with (
        client.open("GET", server.url + "/") as response,
        pytest.raises(IntegrityError, match="more than 10 bytes"),
    ):
        response.read_all(10)


def test_user_and_password_of_an_address_are_sent_and_never_shown(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(status=403))
    with client.open("GET", f"http://ann:s%40cret@{server.host}/?token=hidden#part") as response:
        assert response.url == server.url + "/"
    assert server.requests[0].headers["authorization"] == "Basic YW5uOnNAY3JldA=="


@pytest.mark.parametrize(
    "url",
    ["", "nothing", "ftp://host/", "http:///path", "http://[::1/", "http://host:99999/", "http://ho\nst/"],
)
def test_what_is_no_address_is_said_to_be_none(client: HttpClient, url: str) -> None:
    with pytest.raises(UnreachableError, match="is not an http or https address"):
        client.open("GET", url)


def test_a_header_that_would_smuggle_another_is_refused(client: HttpClient, server: FaultyServer) -> None:
    with pytest.raises(UnreachableError, match="can't be sent"):
        client.open("GET", server.url, headers={"X-A": "b\r\nX-C: d"})
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@h.example:8443/a/b?sig=1#f", "https://h.example:8443/a/b"),
        ("http://h.example", "http://h.example"),
        ("http://ann:pw@[::1/?x=1", "[::1/"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    assert show_address(url) == shown


# ---- retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    client: HttpClient, server: FaultyServer, pauses: Pauses, status: int
) -> None:
    server.on("GET", "/", Answer(status=status, body=b"wait"), Answer(status=status), Answer(body=b"ok"))
    assert read(client, server.url + "/") == (200, b"ok")
    assert len(pauses) == 2
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 416, 501])
def test_lasting_failures_are_not_tried_again(client: HttpClient, server: FaultyServer, status: int) -> None:
    server.on("GET", "/", Answer(status=status))
    assert read(client, server.url + "/")[0] == status
    assert len(server.requests) == 1


def test_after_all_retries_the_last_answer_counts(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(status=503, body=b"still down"))
    assert read(client, server.url + "/") == (503, b"still down")
    assert len(server.requests) == 4


def test_connections_that_break_before_an_answer_are_tried_again(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(hang_up=True), Answer(hang_up=True), Answer(body=b"ok"))
    assert read(client, server.url + "/") == (200, b"ok")


def test_retries_can_be_turned_off(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(hang_up=True))
    with pytest.raises(UnreachableError, match="connection broke"):
        client.open("GET", server.url + "/", retry=False)
    assert len(server.requests) == 1


def test_a_body_that_is_an_iterable_is_never_sent_twice(client: HttpClient, server: FaultyServer) -> None:
    server.on("PUT", "/", Answer(status=503), Answer(status=201))
    with client.open("PUT", server.url + "/", headers={"Content-Length": "1"}, body=iter([b"x"])) as response:
        assert response.status == 503


def test_retry_after_in_seconds_is_honoured(client: HttpClient, server: FaultyServer, pauses: Pauses) -> None:
    server.on("GET", "/", Answer(status=429, headers={"Retry-After": "7"}), Answer())
    assert read(client, server.url + "/")[0] == 200
    assert pauses == [7.0]


def test_retry_after_as_a_date_is_honoured(client: HttpClient, server: FaultyServer, pauses: Pauses) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.on("GET", "/", Answer(status=503, headers={"Retry-After": date}), Answer())
    assert read(client, server.url + "/")[0] == 200
    assert 20 < pauses[0] <= 30


def test_a_pause_beyond_the_bound_ends_the_retries(client: HttpClient, server: FaultyServer, pauses: Pauses) -> None:
    server.on("GET", "/", Answer(status=429, headers={"Retry-After": str(int(LONGEST_PAUSE) + 1)}), Answer())
    assert read(client, server.url + "/")[0] == 429
    assert pauses == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("9" * 5000, float("9" * 12)),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Wed, 99 Oct 2026 07:28:30 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_backoff_grows_up_to_a_bound() -> None:
    pauses = [backoff(attempt) for attempt in (0, 1, 2, 3, 50, 5_000)]
    assert pauses == sorted(pauses) or max(pauses) <= 20
    assert 10 <= backoff(10_000) <= 20


# ---- no answer


def test_a_refused_connection_is_named_without_the_query(client: HttpClient) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UnreachableError) as caught:
        client.open("GET", f"http://ann:pw@127.0.0.1:{port}/a?token=hidden")
    assert str(caught.value) == f"http://127.0.0.1:{port}/a: connection refused"


def test_an_unknown_host_is_not_tried_again(
    client: HttpClient, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UnreachableError, match=r"http://nowhere\.invalid/: no such host name"):
        client.open("GET", "http://nowhere.invalid/")
    assert pauses == []


def test_a_slow_header_times_out(server: FaultyServer, pauses: Pauses) -> None:
    server.on("GET", "/", Answer(delay=1.0))
    with (
        HttpClient(HttpSettings(read_timeout=0.1, retries=1), sleep=pauses) as client,
        pytest.raises(UnreachableError, match="no answer in time"),
    ):
        client.open("GET", server.url + "/")
    assert len(pauses) == 1


def test_a_server_of_another_protocol_is_unreachable(client: HttpClient) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def greet() -> None:
            for _ in range(4):
                connection, _ = listener.accept()
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.close()

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        with pytest.raises(UnreachableError, match=r"HTTP|broke"):
            client.open("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_truncated_body_is_an_error(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(body=b"0123456789", cut=4))
    with (
        client.open("GET", server.url + "/") as response,
        pytest.raises(UnreachableError, match="middle of the answer"),
    ):
        response.read_all(100)


# ---- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(client: HttpClient, server: FaultyServer, status: int) -> None:
    server.on("GET", "/a/b", Answer(status=status, headers={"Location": "../c?d=1"}))
    server.on("GET", "/c", Answer(body=b"there"))
    with client.open("GET", server.url + "/a/b") as response:
        assert response.read_all(10) == b"there"
        assert response.url == server.url + "/c"
    assert server.requests[-1].query == {"d": "1"}


def test_a_redirect_keeps_authorization_on_the_same_host(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/a", Answer(status=307, headers={"Location": "/b"}))
    server.on("GET", "/b", Answer())
    read(client, server.url + "/a", Authorization="Bearer t")
    assert server.requests[-1].headers["authorization"] == "Bearer t"


def test_a_redirect_never_takes_authorization_to_another_host(client: HttpClient, server: FaultyServer) -> None:
    with faulty_server() as storage:
        storage.on("GET", "/blob", Answer(body=b"stored"))
        server.on("GET", "/a", Answer(status=307, headers={"Location": storage.url + "/blob?sig=s"}))
        assert read(client, server.url + "/a", authorization="Bearer t", Cookie="c=1", Accept="*/*") == (
            200,
            b"stored",
        )
    assert {"authorization", "cookie"}.isdisjoint(storage.requests[0].headers)
    assert storage.requests[0].headers["accept"] == "*/*"


def test_credentials_in_a_redirect_are_ignored(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/a", Answer(status=302, headers={"Location": f"http://eve:pw@{server.host}/b"}))
    server.on("GET", "/b", Answer())
    assert read(client, server.url + "/a")[0] == 200
    assert "authorization" not in server.requests[-1].headers


def test_a_body_is_sent_again_where_a_redirect_asks_for_it(client: HttpClient, server: FaultyServer) -> None:
    server.on("POST", "/a", Answer(status=308, headers={"Location": "/b"}))
    server.on("POST", "/b", Answer(status=303, headers={"Location": "/c"}))
    server.on("GET", "/c", Answer(body=b"made"))
    with client.open("POST", server.url + "/a", body=b"data") as response:
        assert response.read_all(10) == b"made"
    assert [seen.body for seen in server.requests] == [b"data", b"data", b""]


def test_a_redirect_can_be_left_to_the_caller(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/a", Answer(status=307, headers={"Location": "x?y=1"}))
    with client.open("GET", server.url + "/a", redirect=False) as response:
        assert response.status == 307
        assert response.resolve(response.headers["Location"]) == server.url + "/x?y=1"


def test_endless_redirects_end(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/a", Answer(status=302, headers={"Location": "/a"}))
    with pytest.raises(UnreachableError, match="more than 10 redirects"):
        client.open("GET", server.url + "/a")
    assert len(server.requests) == 11


@pytest.mark.parametrize("location", ["file:///etc/passwd", "//", "http://[::1/", "gopher://h/"])
def test_a_redirect_out_of_http_is_refused(client: HttpClient, server: FaultyServer, location: str) -> None:
    server.on("GET", "/a", Answer(status=302, headers={"Location": location}))
    with pytest.raises(UnreachableError):
        client.open("GET", server.url + "/a")
