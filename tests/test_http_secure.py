# SPDX-License-Identifier: Apache-2.0
"""TLS and proxies."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from copacetic.errors import UnreachableError, UsageError
from copacetic.http import HttpClient, HttpSettings, TlsSettings
from copacetic.http.failure import describe_failure
from copacetic.http.pool import make_context
from copacetic.http.proxy import is_exempt, select_proxy
from support.server.certificate import make_certificate
from support.server.faulty import Answer, FaultyServer, faulty_server, tunnel_proxy

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


# ---- TLS


def test_a_given_authority_is_trusted_and_others_are_not(client: HttpClient, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with faulty_server(tls=certificate.server_context()) as server:
        server.on("GET", "/", Answer(body=b"ok"))
        with client.open("GET", server.url, tls=TlsSettings(ca_files=(certificate.authority,))) as response:
            assert response.read_all(10) == b"ok"
        with pytest.raises(UnreachableError, match="signed by an unknown authority") as caught:
            client.open("GET", server.url)
        assert "certs.d" in (caught.value.hint or "")
        with HttpClient(HttpSettings(ca_files=(certificate.authority,))) as trusting:
            assert read(trusting, server.url) == (200, b"ok")


def test_verification_can_be_turned_off_without_a_warning(client: HttpClient, tmp_path: Path) -> None:
    with faulty_server(tls=make_certificate(tmp_path, days=-1).server_context()) as server:
        server.on("GET", "/", Answer(body=b"ok"))
        with client.open("GET", server.url, tls=TlsSettings(verify=False)) as response:
            assert response.read_all(10) == b"ok"


@pytest.mark.parametrize(
    ("days", "name", "words"),
    [
        (-1, "IP:127.0.0.1", "its certificate has expired"),
        (2, "DNS:other.example", "its certificate is for another"),
    ],
)
def test_bad_certificates_are_told_apart(client: HttpClient, tmp_path: Path, days: int, name: str, words: str) -> None:
    certificate = make_certificate(tmp_path, names=(name,), days=days)
    with (
        faulty_server(tls=certificate.server_context()) as server,
        pytest.raises(UnreachableError, match=words),
    ):
        client.open("GET", server.url, tls=TlsSettings(ca_files=(certificate.authority,)))


def test_plain_http_on_a_tls_address_is_explained(client: HttpClient, server: FaultyServer) -> None:
    with pytest.raises(UnreachableError, match="doesn't speak TLS"):
        client.open("GET", f"https://{server.host}/")


def test_a_client_certificate_is_shown_to_its_host_only(client: HttpClient, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    mutual = certificate.server_context(client_authority=certificate.authority)
    tls = TlsSettings(ca_files=(certificate.authority,), client_cert=certificate.file, client_key=certificate.key)
    with faulty_server(tls=mutual) as server, faulty_server(tls=mutual) as other:
        server.on("GET", "/", Answer(body=b"ok"))
        with client.open("GET", server.url, tls=tls) as response:
            assert response.read_all(10) == b"ok"
        server.on("GET", "/away", Answer(status=302, headers={"Location": other.url}))
        with pytest.raises(UnreachableError):
            client.open("GET", server.url + "/away", tls=tls, retry=False).close()
        assert other.requests == []


def test_https_is_never_left_for_http(client: HttpClient, server: FaultyServer, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with faulty_server(tls=certificate.server_context()) as secure:
        secure.on("GET", "/", Answer(status=302, headers={"Location": server.url}))
        with pytest.raises(UnreachableError, match="redirects to plain HTTP"):
            client.open("GET", secure.url, tls=TlsSettings(ca_files=(certificate.authority,)))
    assert server.requests == []


def test_a_file_that_is_no_certificate_is_named(client: HttpClient, tmp_path: Path) -> None:
    wrong = tmp_path / "ca.crt"
    wrong.write_text("nothing")
    for settings in (
        TlsSettings(ca_files=(wrong,)),
        TlsSettings(ca_files=(tmp_path / "absent",)),
        TlsSettings(client_cert=wrong, client_key=wrong),
    ):
        with pytest.raises(UsageError, match=str(tmp_path)):
            client.open("GET", "https://127.0.0.1:1/", tls=settings)


# ---- proxies


@pytest.mark.parametrize(
    ("host", "exemptions", "exempt"),
    [
        ("registry.example", "", False),
        ("registry.example", "*", True),
        ("registry.example", "example", True),
        ("registry.example", "registry.example", True),
        ("registry.example", "other, REGISTRY.example ", True),
        ("registry.example", ".example", True),
        ("registry.example", "*.example", True),
        ("example", ".example", False),
        ("myexample", "example", False),
        ("registry.example", "registry.example:443", True),
        ("registry.example", "registry.example:8443", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:444", False),
        ("ten.example", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::1]:443", True),
        ("fd00::1", "fd00::1", True),
        ("registry.example", "nonsense/99,:::,/,:", False),
        ("10.1.2.3", "nonsense/99,10.1.2.3/99,10.1.2.3", True),
        ("localhost", "", True),
        ("127.0.0.1", "", True),
        ("::1", "", True),
    ],
)
def test_no_proxy(host: str, exemptions: str, exempt: bool) -> None:
    assert is_exempt(host, 443, exemptions) is exempt


def test_proxies_are_chosen_by_scheme() -> None:
    proxies = {"https": "proxy.example:3128", "no": "b.example"}
    assert select_proxy("https://a.example/", proxies) == "http://proxy.example:3128"
    assert select_proxy("http://a.example/", proxies) is None
    assert select_proxy("https://b.example/", proxies) is None


def test_a_proxy_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(UsageError, match=r"socks5://proxy\.example:1") as caught:
        select_proxy("https://a.example/", {"https": "socks5://ann:pw@proxy.example:1"})
    assert "pw" not in str(caught.value)


def test_plain_requests_go_through_the_proxy_with_its_credentials(server: FaultyServer) -> None:
    server.on("GET", "http://registry.example/v2/", Answer(body=b"proxied"))
    settings = HttpSettings(proxies={"http": f"http://ann:p%40w@{server.host}"})
    with HttpClient(settings) as client:
        assert read(client, "http://registry.example/v2/") == (200, b"proxied")
    assert server.requests[0].headers["proxy-authorization"] == "Basic YW5uOnBAdw=="


def test_a_proxy_that_wants_a_password_is_explained(server: FaultyServer) -> None:
    server.on("CONNECT", "*", Answer(status=407))
    settings = HttpSettings(proxies={"https": f"http://{server.host}"}, retries=0)
    with (
        HttpClient(settings) as client,
        pytest.raises(UnreachableError, match="the proxy refuses: 407") as caught,
    ):
        client.open("GET", "https://registry.example/v2/")
    assert "USER:PASSWORD" in (caught.value.hint or "")


def test_tls_goes_through_the_proxy_to_the_host_that_was_meant(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, names=("DNS:registry.example",))
    with (
        faulty_server(tls=certificate.server_context()) as secure,
        tunnel_proxy(secure.host) as (proxy, requests),
        HttpClient(HttpSettings(proxies={"https": f"http://ann:pw@{proxy}"})) as client,
    ):
        secure.on("GET", "/v2/", Answer(body=b"tunnelled"))
        tls = TlsSettings(ca_files=(certificate.authority,))
        with client.open("GET", "https://registry.example/v2/", tls=tls, headers={"Authorization": "x"}) as response:
            assert response.read_all(100) == b"tunnelled"
        with pytest.raises(UnreachableError, match="its certificate is for another host name"):
            client.open("GET", "https://other.example/v2/", tls=tls)
    assert requests[0].startswith("CONNECT registry.example:443 ")
    assert "proxy-authorization: basic yw5uonb3" in requests[0].lower()
    assert "authorization: x" not in requests[0].lower()
    assert "proxy-authorization" not in secure.requests[0].headers


# ---- what failures are called


def wrap(cause: BaseException) -> BaseException:
    """As urllib3 does it."""
    error = urllib3.exceptions.ProtocolError("Connection aborted.", cause)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words", "retried"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "x"), "the host name can't be resolved just now", True),
        (socket.gaierror(socket.EAI_NONAME, "x"), "no such host name", False),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "network is unreachable", True),
        (wrap(ConnectionResetError()), "the connection broke", True),
        (wrap(http.client.BadStatusLine("x")), "it doesn't speak HTTP", True),
        (wrap(http.client.LineTooLong("x")), "the connection broke, or it speaks broken HTTP", True),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] alert"), "the connection broke during TLS", True),
        (ssl.SSLEOFError(8, "EOF occurred"), "the connection broke during TLS", True),
        (urllib3.exceptions.LocationParseError("x"), "the address is malformed", False),
        (urllib3.exceptions.HTTPError("x"), "the request failed (HTTPError)", False),
    ],
)
def test_failures_are_described_in_plain_words(error: BaseException, words: str, retried: bool) -> None:
    failure = describe_failure(error)
    assert (failure.words, failure.retries > 0) == (words, retried)


def test_a_loop_of_causes_ends() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    assert describe_failure(error).words == "the request can't be sent as HTTP"


def test_the_systems_authorities_are_found_where_openssl_knows_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setattr("copacetic.http.pool._BUNDLES", (str(tmp_path / "absent"), str(certificate.authority)))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "absent"))
    assert len(make_context(TlsSettings(), ()).get_ca_certs()) == 1
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert make_context(TlsSettings(), ()).get_ca_certs() == []
