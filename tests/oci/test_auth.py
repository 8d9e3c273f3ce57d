# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ssl
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import AuthenticationError, RateLimitedError, RegistryError, UnreachableError
from copacetic.http import HttpClient, HttpSettings, TlsSettings
from copacetic.oci.auth import Access, Authorizer
from copacetic.oci.challenge import Challenge, merge_scopes, parse_challenges, select_challenge
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.registryconfig import Endpoint
from support.server.certificate import make_certificate
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer
from support.value.replacing import replace

HOST = "registry.example"
ANN = Credentials(username="ann", password="s3cret:w0rd", origin="config.json")


# ---- challenges


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ('Basic realm="r"', [("basic", {"realm": "r"})]),
        ("Basic realm=plain", [("basic", {"realm": "plain"})]),
        ("BASIC", [("basic", {})]),
        (
            'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "registry.example",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'Bearer realm="a" , Service = "s, with comma" ,Basic realm="b", charset="UTF-8"',
            [("bearer", {"realm": "a", "service": "s, with comma"}), ("basic", {"realm": "b", "charset": "UTF-8"})],
        ),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate YWJj==, Bearer realm="x"', [("negotiate", {}), ("bearer", {"realm": "x"})]),
        (r'Bearer realm="a \"quoted\" \\ one"', [("bearer", {"realm": r'a "quoted" \ one'})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ('Bearer realm="never closed', [("bearer", {}), ("realm", {})]),
        ("  ,, ,Basic", [("basic", {})]),
        ("\x00", []),
    ],
)
def test_challenges(header: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(header)] == challenges


token = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=8)
value = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
challenge_list = st.lists(st.tuples(token, st.dictionaries(token, value, min_size=1, max_size=3)), max_size=4)


@given(challenge_list)
def test_what_is_written_as_challenges_is_read_as_them(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quote(text)}" for name, text in parameters.items())
        for scheme, parameters in challenges
    )
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(header)] == challenges


@given(st.text(max_size=300))
def test_no_header_breaks_the_parser(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


def test_a_long_hostile_header_takes_no_time() -> None:
    parse_challenges('Bearer realm="' + '\\"' * 200_000)
    parse_challenges("a" * 400_000 + "=" * 10)
    parse_challenges("a " * 200_000)


def test_bearer_is_chosen_before_basic_and_others_never() -> None:
    basic, bearer = Challenge("basic", {}), Challenge("bearer", {"realm": "x"})
    assert select_challenge([basic, bearer]) is bearer
    assert select_challenge([Challenge("bearer", {}), Challenge("digest", {"realm": "x"}), basic]) is basic
    assert select_challenge([Challenge("negotiate", {})]) is None


@pytest.mark.parametrize(
    ("scopes", "merged"),
    [
        ([], ()),
        (["repository:a:pull", "repository:a:push,pull"], ("repository:a:pull,push",)),
        (["repository:b:pull", "repository:a:pull"], ("repository:a:pull", "repository:b:pull")),
        (["repository:host:5000/a:pull"], ("repository:host:5000/a:pull",)),
        (["registry:catalog:*", "odd"], ("odd", "registry:catalog:*")),
    ],
)
def test_scopes_are_merged(scopes: list[str], merged: tuple[str, ...]) -> None:
    assert merge_scopes(*scopes) == merged


# ---- logging in


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def http() -> Iterator[HttpClient]:
    with HttpClient(HttpSettings(retries=1, read_timeout=5), sleep=lambda _: None) as client:
        yield client


def make_access(*scopes: str, plain: bool = True, host: str = HOST, tls: TlsSettings | None = None) -> Access:
    endpoint = Endpoint(registry=host, repository="team/app", schemes=("https",), tls=tls or TlsSettings())
    return Access(
        endpoint=endpoint,
        scopes=scopes or ("repository:team/app:pull",),
        plain=plain,
        what="registry.example/team/app:1",
    )


def ask(server: FaultyServer, **parameters: str) -> dict[str, str]:
    more = "".join(f',{name}="{text}"' for name, text in parameters.items())
    return {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="the registry"{more}'}


def keychain(credentials: Credentials | None = ANN, host: str = HOST) -> Keychain:
    return Keychain(given={host: credentials} if credentials else {})


def basic_of(seen: Seen) -> str:
    return b64decode(seen.headers["authorization"].removeprefix("Basic ")).decode()


def test_nothing_is_sent_before_a_registry_asks(http: HttpClient) -> None:
    assert Authorizer(http, keychain()).authorize(make_access()) == ""


def test_basic_sends_user_and_password(http: HttpClient) -> None:
    authorizer = Authorizer(http, keychain())
    sent = authorizer.reauthorize(make_access(), {"WWW-Authenticate": "Basic realm=x"}, refused="")
    assert b64decode(sent.removeprefix("Basic ")).decode() == "ann:s3cret:w0rd"
    assert authorizer.authorize(make_access()) == sent
    assert authorizer.reauthorize(make_access(), {"WWW-Authenticate": "Basic realm=x"}, refused=sent) == ""


def test_credentials_are_for_their_registry_only(http: HttpClient) -> None:
    authorizer = Authorizer(http, keychain())
    with pytest.raises(AuthenticationError, match=r"other\.example wants a login, and there are no credentials"):
        authorizer.reauthorize(make_access(host="other.example"), {"WWW-Authenticate": "Basic"}, refused="")


def test_an_unknown_kind_of_login_is_left_to_the_answer(http: HttpClient) -> None:
    authorizer = Authorizer(http, keychain())
    assert authorizer.reauthorize(make_access(), {"WWW-Authenticate": "Negotiate"}, refused="") == ""


def test_a_server_that_doesn_t_say_what_it_wants_gets_user_and_password(http: HttpClient) -> None:
    assert Authorizer(http, keychain()).reauthorize(make_access(), {}, refused="").startswith("Basic ")
    assert Authorizer(http, keychain(None)).reauthorize(make_access(), {}, refused="") == ""


def test_a_token_is_fetched_with_the_credentials(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", json_answer({"token": "t1"}))
    sent = Authorizer(http, keychain()).reauthorize(make_access(), ask(server), refused="")
    assert sent == "Bearer t1"
    (seen,) = server.requests
    assert basic_of(seen) == "ann:s3cret:w0rd"
    assert seen.query == {"service": "the registry", "scope": "repository:team/app:pull", "account": "ann"}


def test_a_token_is_fetched_without_credentials_where_there_are_none(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", json_answer({"access_token": "anonymous"}))
    sent = Authorizer(http, keychain(None)).reauthorize(make_access(), ask(server), refused="")
    assert sent == "Bearer anonymous"
    assert "authorization" not in server.requests[0].headers


def test_an_identity_token_is_exchanged_by_post(http: HttpClient, server: FaultyServer) -> None:
    server.on("POST", "/token", json_answer({"access_token": "t1"}))
    mine = Credentials(identity_token="id&=token", origin="config.json")
    sent = Authorizer(http, keychain(mine)).reauthorize(
        make_access("repository:team/app:push,pull", "repository:base:pull"), ask(server), refused=""
    )
    assert sent == "Bearer t1"
    assert server.requests[0].form == {
        "grant_type": "refresh_token",
        "refresh_token": "id&=token",
        "client_id": "copacetic",
        "service": "the registry",
        "scope": "repository:base:pull repository:team/app:pull,push",
    }
    assert server.requests[0].query == {}


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_takes_no_identity_token_gets_the_password_beside_it(
    http: HttpClient, server: FaultyServer, status: int
) -> None:
    server.on("POST", "/token", Answer(status=status))
    server.on("GET", "/token", json_answer({"token": "t1"}))
    mine = Credentials(username="ann", password="pw", identity_token="idt", origin="config.json")

    assert Authorizer(http, keychain(mine)).reauthorize(make_access(), ask(server), refused="") == "Bearer t1"

    assert [seen.method for seen in server.requests] == ["POST", "GET"]
    assert basic_of(server.requests[1]) == "ann:pw"


@pytest.mark.parametrize(
    ("host", "plain", "realm"),
    [
        ("registry.example", True, "http://auth.invalid/token"),
        ("localhost:5000", True, "http://auth.invalid/token"),
        ("localhost:5000", False, "http://auth.invalid/token"),
        ("registry.example", False, "http://registry.example/token"),
    ],
)
def test_a_password_never_goes_over_plain_http_to_a_token_server_elsewhere(
    http: HttpClient, host: str, realm: str, *, plain: bool
) -> None:
    with pytest.raises(AuthenticationError, match="plain HTTP"):
        Authorizer(http, keychain(host=host)).reauthorize(
            make_access(plain=plain, host=host), {"WWW-Authenticate": f'Bearer realm="{realm}"'}, refused=""
        )


def test_a_login_that_goes_to_another_host_is_said(
    http: HttpClient, server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("GET", "/token", json_answer({"token": "t1"}))
    with caplog.at_level("DEBUG", logger="copacetic"):
        Authorizer(http, keychain()).reauthorize(make_access(), ask(server), refused="")

    assert "its login goes to another host, 127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_registry_token_is_sent_as_it_is(http: HttpClient, server: FaultyServer) -> None:
    mine = Credentials(registry_token="mine", origin="config.json")
    authorizer = Authorizer(http, keychain(mine))
    assert authorizer.reauthorize(make_access(), ask(server), refused="") == "Bearer mine"
    assert authorizer.reauthorize(make_access(), ask(server), refused="Bearer mine") == ""
    assert server.requests == []


def test_the_scope_that_the_registry_asks_for_is_added(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", json_answer({"token": "t1"}), json_answer({"token": "t2"}))
    authorizer = Authorizer(http, keychain())
    headers = ask(server, scope="repository:team/app:push repository:other:pull")
    assert authorizer.reauthorize(make_access(), headers, refused="") == "Bearer t1"
    assert authorizer.authorize(make_access()) == "Bearer t1"
    assert server.count("GET", "/token") == 1
    assert server.requests[0].query["scope"] == "repository:team/app:pull,push"  # the last of two


def test_a_token_is_kept_per_scope_until_it_expires(http: HttpClient, server: FaultyServer, clock: Clock) -> None:
    server.on("GET", "/token", *(json_answer({"token": f"t{n}", "expires_in": 100}) for n in range(1, 5)))
    authorizer = Authorizer(http, keychain(), clock=clock)
    pull, push = make_access(), make_access("repository:team/app:pull,push")
    assert authorizer.reauthorize(pull, ask(server), refused="") == "Bearer t1"
    assert authorizer.authorize(push) == "Bearer t2"
    clock.now += 75
    assert (authorizer.authorize(pull), authorizer.authorize(push)) == ("Bearer t1", "Bearer t2")
    clock.now += 10
    assert authorizer.authorize(pull) == "Bearer t3"


def test_a_refused_token_is_replaced_once(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", json_answer({"token": "t1"}), json_answer({"token": "t2"}))
    authorizer = Authorizer(http, keychain())
    first = authorizer.reauthorize(make_access(), ask(server), refused="")
    assert authorizer.reauthorize(make_access(), ask(server), refused=first) == "Bearer t2"
    assert authorizer.reauthorize(make_access(), ask(server), refused="Bearer t2") == ""


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            json_answer({"details": "bad password"}, 401),
            AuthenticationError,
            "bad password.*tried user ann from config",
        ),
        (json_answer({"error": "invalid_grant"}, 400), AuthenticationError, "invalid_grant"),
        (Answer(status=403), AuthenticationError, "access is denied"),
        (Answer(status=404), RegistryError, "token server: not found"),
        (Answer(status=429), RateLimitedError, "too many requests"),
        (Answer(status=500), RegistryError, "status 500"),
        (Answer(body=b"nonsense"), AuthenticationError, "no usable token"),
        (Answer(body=b"x" * (1 << 20) + b"x"), AuthenticationError, "no usable token"),
        (json_answer([]), AuthenticationError, "no usable token"),
        (json_answer({"token": ""}), AuthenticationError, "no usable token"),
        (json_answer({"token": "a\r\nX-Evil: b"}), AuthenticationError, "no usable token"),
        (json_answer({"token": 7}), AuthenticationError, "no usable token"),
        (Answer(hang_up=True), UnreachableError, "token server: .*connection broke"),
    ],
)
def test_a_token_server_that_refuses_is_named(
    http: HttpClient, server: FaultyServer, answer: Answer, kind: type[Exception], message: str
) -> None:
    server.on("GET", "/token", answer)
    with pytest.raises(kind, match=message) as caught:
        Authorizer(http, keychain()).reauthorize(make_access(), ask(server), refused="")
    assert str(caught.value).startswith("registry.example/team/app:1: registry.example")
    assert "s3cret" not in str(caught.value)


def test_a_refusal_without_credentials_says_that_there_are_none(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", Answer(status=401))
    with pytest.raises(AuthenticationError, match="there are no credentials for this registry"):
        Authorizer(http, keychain(None)).reauthorize(make_access(), ask(server), refused="")


@pytest.mark.parametrize("seconds", [0, -1, None, "60", 10**400, True])
def test_odd_lifetimes_are_understood(http: HttpClient, server: FaultyServer, clock: Clock, seconds: object) -> None:
    server.on("GET", "/token", json_answer({"token": "t1", "expires_in": seconds}), json_answer({"token": "t2"}))
    authorizer = Authorizer(http, keychain(), clock=clock)
    authorizer.reauthorize(make_access(), ask(server), refused="")
    clock.now += 100_000
    assert authorizer.authorize(make_access()) == "Bearer t2"


def test_a_token_server_on_plain_http_is_for_registries_on_plain_http(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", json_answer({"token": "t1"}))
    with pytest.raises(AuthenticationError, match=r"token server on plain HTTP .*/token.*, which is refused"):
        Authorizer(http, keychain()).reauthorize(make_access(plain=False), ask(server), refused="")
    assert server.requests == []
    local = make_access(plain=False, host="localhost:5000")
    chain = keychain(host="localhost:5000")
    assert Authorizer(http, chain).reauthorize(local, ask(server), refused="") == "Bearer t1"


@pytest.mark.parametrize("realm", ["nonsense", "file:///etc/passwd", "https://", "/token"])
def test_a_token_server_without_an_address_is_refused(http: HttpClient, realm: str) -> None:
    with pytest.raises(AuthenticationError, match="token server"):
        Authorizer(http, keychain()).reauthorize(
            make_access(), {"WWW-Authenticate": f'Bearer realm="{realm}"'}, refused=""
        )


def test_the_query_of_a_realm_is_kept_and_never_shown(http: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/token", Answer(status=500), Answer(status=500))
    with pytest.raises(RegistryError) as caught:
        Authorizer(http, keychain()).reauthorize(
            make_access(), {"WWW-Authenticate": f'Bearer realm="{server.url}/token?key=hidden"'}, refused=""
        )
    assert server.requests[0].query["key"] == "hidden"
    assert "hidden" not in str(caught.value)


def test_a_client_certificate_is_for_the_registry_and_not_for_its_token_server(
    http: HttpClient, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    context = certificate.server_context(client_authority=certificate.authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    tls = TlsSettings(ca_files=(certificate.authority,), client_cert=certificate.file, client_key=certificate.key)
    with faulty_server(tls=context) as secure:
        secure.on("GET", "/token", json_answer({"token": "t"}))
        access = make_access(plain=False, tls=tls)
        headers = {"WWW-Authenticate": f'Bearer realm="{secure.url}/token"'}
        assert Authorizer(http, keychain()).reauthorize(access, headers, refused="") == "Bearer t"
        # With a certificate demanded, only the registry's own host could be reached.
        context.verify_mode = ssl.CERT_REQUIRED
        http.close()
        with pytest.raises(UnreachableError):
            Authorizer(http, keychain()).reauthorize(access, headers, refused="")
        own = replace(access, endpoint=replace(access.endpoint, registry=f"127.0.0.1:{secure.port}"))
        chain = keychain(host=f"127.0.0.1:{secure.port}")
        assert Authorizer(http, chain).reauthorize(own, headers, refused="") == "Bearer t"
