# SPDX-License-Identifier: Apache-2.0
"""Where addresses that an image has chosen may lead, and to whom logins go."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from copacetic.errors import CopaError, RefusedAddressError, UnreachableError, hide_credentials
from copacetic.http import HttpClient, HttpSettings, connection
from copacetic.http.address import WebOrigin, find_origin
from copacetic.http.login import Login, find_login
from copacetic.http.reach import Reach, parse_network
from support.server.faulty import Answer, FaultyServer, faulty_server


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        running.on("GET", "*", Answer(body=b"ok"))
        yield running


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(HttpSettings(connect_timeout=2, read_timeout=2, retries=0)) as made:
        yield made


def read(client: HttpClient, url: str) -> bytes:
    with client.open("GET", url) as response:
        return response.read_all(100)


def name(monkeypatch: pytest.MonkeyPatch, host: str, *answers: list[str]) -> list[str]:
    """Let a name have other addresses each time that it is resolved; returns who was asked for."""
    real, asked, left = socket.getaddrinfo, list[str](), list(answers)

    def resolve(wanted: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if wanted != host:
            return real(wanted, port, *arguments, **options)
        asked.append(wanted)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [row for address in addresses for row in real(address, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "on loopback"),
        ("127.9.9.9", "on loopback"),
        ("127.1", "on loopback"),
        ("0x7f.1", "on loopback"),
        ("0177.0.0.1", "on loopback"),
        ("2130706433", "on loopback"),
        ("localhost", "on loopback"),
        ("LOCALHOST.", "on loopback"),
        ("a.localhost", "on loopback"),
        ("[::1]", "on loopback"),
        ("[::ffff:127.0.0.1]", "on loopback"),
        ("[::127.0.0.1]", "on loopback"),
        ("[64:ff9b::7f00:1]", "on loopback"),
        ("[64:ff9b:1::7f00:1]", "on loopback"),
        ("[2002:7f00:1::]", "on loopback"),
        ("0.0.0.0", "this machine itself"),
        ("0.1.2.3", "this machine itself"),
        ("[::]", "this machine itself"),
        ("169.254.1.1", "link-local"),
        ("[fe80::1]", "link-local"),
        ("169.254.169.254", "a metadata service"),
        ("[::ffff:169.254.169.254]", "a metadata service"),
        ("[64:ff9b::a9fe:a9fe]", "a metadata service"),
        ("[fd00:ec2::254]", "a metadata service"),
        ("100.100.100.200", "a metadata service"),
        ("168.63.129.16", "a metadata service"),
        ("metadata.google.internal", "a metadata service"),
        ("224.0.0.1", "no host's address"),
        ("255.255.255.255", "no host's address"),
        ("[ff02::1]", "no host's address"),
    ],
)
@pytest.mark.parametrize("proxied", [False, True])
def test_an_image_can_t_lead_to_this_machine_or_to_a_cloud_s_metadata(
    host: str, reason: str, server: FaultyServer, *, proxied: bool
) -> None:
    settings = HttpSettings(retries=0, connect_timeout=1, proxies={"http": server.url} if proxied else {})
    with HttpClient(settings) as client, pytest.raises(RefusedAddressError) as caught:
        read(client.within(Reach()), f"http://{host}:{server.port}/latest/")

    assert reason in str(caught.value)
    assert caught.value.exit_code == 1
    assert server.requests == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["0.0.0.0"], ["169.254.169.254", "127.0.0.1"]]
)
def test_a_name_is_judged_by_what_it_resolves_to(
    addresses: list[str], client: HttpClient, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name(monkeypatch, "deb.example", addresses)

    with pytest.raises(RefusedAddressError, match="deb.example"):
        read(client.within(Reach()), f"http://deb.example:{server.port}/")

    assert server.requests == []


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    client: HttpClient, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = name(monkeypatch, "deb.example", ["127.0.0.1"], ["127.0.0.2"])
    here = Reach(networks=(parse_network("127.0.0.1"),))

    assert read(client.within(here), f"http://deb.example:{server.port}/") == b"ok"

    assert asked == ["deb.example"]
    assert server.requests[0].headers["host"] == f"deb.example:{server.port}"


def test_of_several_addresses_only_those_in_reach_are_tried(
    client: HttpClient, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name(monkeypatch, "deb.example", ["169.254.169.254", "127.0.0.1"])
    here = Reach(networks=(parse_network("127.0.0.0/8"),))

    assert read(client.within(here), f"http://deb.example:{server.port}/") == b"ok"


def test_a_redirect_is_held_against_the_same_rules(client: HttpClient, server: FaultyServer) -> None:
    with faulty_server() as secret:
        server.replace("GET", "/deb", Answer(status=302, headers={"Location": f"{secret.url}/latest/"}))
        with pytest.raises(RefusedAddressError, match="on loopback"):
            read(client.within(Reach().naming([server.url])), f"{server.url}/deb")

        assert secret.requests == []


def test_a_connection_that_was_opened_for_the_user_serves_no_image(client: HttpClient, server: FaultyServer) -> None:
    assert read(client, server.url) == b"ok"
    assert read(client.within(Reach().naming([server.url])), server.url) == b"ok"

    with pytest.raises(RefusedAddressError):
        read(client.within(Reach()), server.url)


@pytest.mark.parametrize("registry", ["127.0.0.1:5000", "localhost:5000"])
def test_repositories_may_be_where_the_image_s_own_registry_is(
    registry: str, client: HttpClient, server: FaultyServer
) -> None:
    assert read(client.within(Reach(registry=registry)), server.url) == b"ok"

    for reach in (Reach(registry=registry, public_only=True), Reach(registry="127.0.0.2:5000")):
        with pytest.raises(RefusedAddressError):
            read(client.within(reach), server.url)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[fd12::1]", "[64:ff9b::a00:1]"]
)
def test_private_networks_are_refused_only_where_nothing_but_the_public_one_is_wanted(host: str) -> None:
    url = f"http://{host}/debian"

    Reach().check(url)
    Reach(public_only=True, networks=(parse_network(host.strip("[]")),)).check(url)
    with pytest.raises(RefusedAddressError, match="in a private network"):
        Reach(public_only=True).check(url)


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1]", "deb.example", "mirror.example"])
def test_what_is_public_is_in_reach(host: str) -> None:
    Reach(public_only=True).check(f"https://{host}/debian")


def test_a_login_goes_to_its_own_host_port_scheme_and_path_only() -> None:
    logins = [
        Login(origin=WebOrigin("https", "h.example", 443), secret="a:1"),
        Login(origin=WebOrigin("https", "h.example", 443), path="/private", secret="b:2"),
    ]

    assert find_login(logins, "https://h.example/debian/x") == "a:1"
    assert find_login(logins, "https://H.example:443/private/x") == "b:2"
    assert find_login(logins, "https://h.example/privateer") == "a:1"
    for other in ("http://h.example/x", "https://h.example:444/x", "https://h.example.evil/x", "https://x.h.example/"):
        assert find_login(logins, other) == ""


def test_a_login_doesn_t_follow_a_redirect_to_elsewhere(client: HttpClient, server: FaultyServer) -> None:
    with faulty_server() as other:
        other.on("GET", "*", Answer(body=b"moved"))
        server.replace("GET", "/deb", Answer(status=302, headers={"Location": f"{other.url}/deb"}))
        reach = Reach().naming([server.url, other.url])
        login = Login(origin=find_origin(server.url), secret="ann:pw")

        assert read(client.within(reach, [login]), f"{server.url}/deb") == b"moved"

        assert server.requests[0].headers["authorization"] == "Basic YW5uOnB3"
        assert "authorization" not in other.requests[0].headers


def test_texts_are_shown_without_the_logins_in_their_addresses() -> None:
    assert hide_credentials("deb http://a:b@h.example/x y") == "deb http://h.example/x y"
    assert hide_credentials("http://h.example/@scope/x ssh://me@h") == "http://h.example/@scope/x ssh://me@h"
    assert str(CopaError("apt says: HTTPS://a:b@c@h.example/x fails")) == "apt says: HTTPS://h.example/x fails"


# ---- answers that never come


def serve_raw(*parts: bytes, endless: bytes) -> tuple[str, socket.socket]:
    """Answer one connection with these bytes, and go on with others until it is closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    connection.recv(65536)
                    for part in parts:
                        connection.sendall(part)
                    for _ in range(100_000):
                        connection.sendall(endless)
                        stop.wait(0.002 if len(endless) < 100 else 0)
            except OSError:
                pass

    stop = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/", listener


def test_interim_answers_end_after_a_few(client: HttpClient) -> None:
    url, listener = serve_raw(endless=b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
    with listener, pytest.raises(UnreachableError, match="more than 5 interim answers"):
        read(client, url)


def test_an_answer_after_five_interim_ones_of_any_kind_counts(client: HttpClient) -> None:
    interim = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 2 + b"HTTP/1.1 102 P\r\n\r\n"
    )
    url, listener = serve_raw(interim, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", endless=b"")
    with listener:
        assert read(client, url) == b"ok"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"])
def test_an_answer_that_trickles_is_given_up(head: bytes) -> None:
    url, listener = serve_raw(head, endless=b"A")
    settings = HttpSettings(retries=0, read_timeout=2, patience=0.05)
    with listener, HttpClient(settings) as client, pytest.raises(UnreachableError, match="less than 1000 bytes"):
        client.open("GET", url).read_all(1 << 30)


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class SlowRaw(io.RawIOBase):
    """Each read gives ten bytes and takes a second of the server's time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def readinto(self, buffer: Any, /) -> int:
        self.clock.now += 1
        buffer[:10] = b"x" * 10
        return 10


def test_the_time_that_a_reader_takes_is_not_the_server_s(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("copacetic.http.connection.time", clock)
    reader = connection._PatientReader(SlowRaw(clock), patience=10)

    for _ in range(10):
        clock.now += 3600
        assert reader.read(100) == b"x" * 10
    with pytest.raises(connection.SlowAnswerError):
        reader.read(100)
