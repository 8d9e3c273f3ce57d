# SPDX-License-Identifier: Apache-2.0
"""
Logging in to registries: Basic, and Bearer tokens as in the distribution project's token and OAuth 2 protocols.

Nothing is sent before a registry asks. Credentials go to the registry that they are kept for, and to the token
server that it names, wherever that is, as docker does it; over plain HTTP only to that registry itself when it is
reached so, and to this machine.
"""

from __future__ import annotations

import json
import logging
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from threading import Lock
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import AuthenticationError, IntegrityError, RegistryError, UnreachableError
from copacetic.http import HttpClient, Response, TlsSettings
from copacetic.http.address import WebOrigin, find_origin, show_address
from copacetic.oci.challenge import Challenge, merge_scopes, parse_challenges, select_challenge
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.registryconfig import Endpoint, is_loopback
from copacetic.oci.registryerror import explain_answer

CLIENT_ID = "copacetic"
_TOKEN_LIMIT = 1 << 20
_DEFAULT_LIFETIME = 60.0
_LONGEST_LIFETIME = 86_400.0
_NO_EXCHANGE = frozenset({404, 405})
_TOKEN = re.compile(r"[\x21-\x7e]+")
_logger = logging.getLogger(__name__)


class _Token(Struct, frozen=True):
    value: str
    expires: float

    def __repr__(self) -> str:
        return f"_Token(expires={self.expires})"


class Access(Struct, frozen=True, kw_only=True):
    """A request that may need a login: to what, for what, and whether its way is plain HTTP."""

    endpoint: Endpoint
    scopes: tuple[str, ...]
    plain: bool
    what: str
    """What is being done, for messages."""

    @property
    def where(self) -> str:
        return f"{self.what}: {self.endpoint.registry}"


class Authorizer:
    """Knows what each registry wants and has given; thread-safe."""

    def __init__(self, http: HttpClient, keychain: Keychain, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._keychain = keychain
        self._clock = clock
        self._lock = Lock()
        self._challenges: dict[str, Challenge] = {}
        self._wanted: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._tokens: dict[tuple[str, str, tuple[str, ...]], _Token] = {}

    def authorize(self, access: Access) -> str:
        """Return the Authorization to send, empty as long as the registry has not asked for any."""
        with self._lock:
            challenge = self._challenges.get(access.endpoint.registry)
            return "" if challenge is None else self._answer(access, challenge)

    def reauthorize(self, access: Access, headers: Mapping[str, str], *, refused: str) -> str:
        """
        Return what to send after an answer with status 401; empty when there is nothing else to try.

        `refused` is what was sent. Raises `AuthenticationError` when there are no credentials, or wrong ones.
        """
        asked_for = headers.get("WWW-Authenticate", "")
        challenge = select_challenge(parse_challenges(asked_for))
        if challenge is None and not asked_for and self.has_password(access):
            challenge = Challenge("basic", {})  # what servers mean that forget to say it
        if challenge is None:
            return ""
        with self._lock:
            self._challenges[access.endpoint.registry] = challenge
            asked = challenge.parameters.get("scope", "").split()
            self._wanted[access.endpoint.registry, access.scopes] = merge_scopes(*access.scopes, *asked)
            value = self._answer(access, challenge)
            if value == refused and challenge.scheme == "bearer":
                self._tokens.pop(self._key(access, challenge), None)
                value = self._answer(access, challenge)
        return "" if value == refused else value

    def has_password(self, access: Access) -> bool:
        """Tell whether a user and a password are known that could be sent; where nobody asks, a broken file is none."""
        try:
            credentials = self._keychain.find(access.endpoint.registry, access.endpoint.repository)
        except AuthenticationError:
            return False
        return credentials is not None and bool(credentials.username)

    def explain(self, access: Access, response: Response, *, tried: bool) -> RegistryError:
        """Return the error for an answer with status 401 in the end; `tried` says whether any login was."""
        if not tried and (asked := parse_challenges(response.headers.get("WWW-Authenticate", ""))):
            ways = ", ".join(sorted({challenge.scheme for challenge in asked}))[:80]
            return AuthenticationError(f"{explain_answer(response, access.what)}; it knows only other logins: {ways}")
        credentials = self._keychain.find(access.endpoint.registry, access.endpoint.repository)
        return _explain_refusal(access.what, credentials, response)

    def _key(self, access: Access, challenge: Challenge) -> tuple[str, str, tuple[str, ...]]:
        wanted = self._wanted.get((access.endpoint.registry, access.scopes)) or merge_scopes(*access.scopes)
        return challenge.parameters["realm"], challenge.parameters.get("service", ""), wanted

    def _answer(self, access: Access, challenge: Challenge) -> str:
        credentials = self._keychain.find(access.endpoint.registry, access.endpoint.repository)
        if credentials is not None and credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        if challenge.scheme == "basic":
            return _make_basic(access, credentials)
        key = self._key(access, challenge)
        token = self._tokens.get(key)
        if token is None or token.expires <= self._clock():
            self._tokens[key] = token = self._fetch(access, credentials, *key)
        return f"Bearer {token.value}"

    def _fetch(
        self, access: Access, credentials: Credentials | None, realm: str, service: str, scopes: tuple[str, ...]
    ) -> _Token:
        server = _check_realm(access, realm, secret=credentials is not None)
        _logger.debug("%s: asking %s for %s", access.where, show_address(realm), " ".join(scopes))
        if credentials is not None and server.host != access.endpoint.hostname:
            _logger.debug("%s: its login goes to another host, %s", access.where, server.host)
        response = self._ask(_make_request(access, credentials, realm, service, scopes), access)
        if response.status in _NO_EXCHANGE and credentials is not None and _can_fall_back(credentials):
            response.discard()
            credentials = replace(credentials, identity_token="")
            response = self._ask(_make_request(access, credentials, realm, service, scopes), access)
        with response:
            if response.status != 200:
                raise _explain_refusal(f"{access.where}: its token server", credentials, response)
            try:
                return _parse_token(response.read_all(_TOKEN_LIMIT), self._clock())
            except (ValueError, RecursionError, IntegrityError) as error:
                message = f"{access.where}: its token server {response.url} gives no usable token"
                raise AuthenticationError(message, hint="the registry's token service is broken") from error

    def _ask(self, request: _Request, access: Access) -> Response:
        try:
            return self._http.open(
                request.method, request.url, headers=request.headers, body=request.body, tls=request.tls
            )
        except UnreachableError as error:
            raise error.reworded(f"{access.where}: its token server: {error}") from error


class _Request(Struct, frozen=True, kw_only=True):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    tls: TlsSettings


def _make_request(
    access: Access, credentials: Credentials | None, realm: str, service: str, scopes: tuple[str, ...]
) -> _Request:
    """With an identity token as in OAuth 2 (POST), otherwise by the older protocol that all servers know (GET)."""
    tls = access.endpoint.tls
    if find_origin(realm).host != access.endpoint.hostname:
        tls = replace(tls, client_cert=None, client_key=None)
    known = [("service", service)] if service else []
    if credentials is not None and credentials.identity_token:
        form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", credentials.identity_token),
            ("client_id", CLIENT_ID),
            *known,
            ("scope", " ".join(scopes)),
        ]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return _Request(method="POST", url=realm, headers=headers, body=urlencode(form).encode(), tls=tls)
    query = known + [("scope", scope) for scope in scopes]
    headers = {}
    if credentials is not None:
        query.append(("account", credentials.username))
        headers["Authorization"] = _make_basic(access, credentials)
    joint = "&" if "?" in realm else "?"
    return _Request(method="GET", url=f"{realm}{joint}{urlencode(query)}", headers=headers, body=None, tls=tls)


def _make_basic(access: Access, credentials: Credentials | None) -> str:
    if credentials is None:
        raise AuthenticationError(f"{access.where} wants a login, and there are no credentials for it")
    if not credentials.username:
        raise AuthenticationError(f"{access.where} wants a user and a password; {credentials.origin} has a token")
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + b64encode(pair).decode("ascii")


def _can_fall_back(credentials: Credentials) -> bool:
    """Some servers give identity tokens, and don't know how to take them; a password beside one still counts."""
    return bool(credentials.identity_token and credentials.username and credentials.password)


def _check_realm(access: Access, realm: str, *, secret: bool) -> WebOrigin:
    """`secret` says that a login is going to be sent there."""
    try:
        origin = find_origin(realm)
    except UnreachableError as error:
        raise AuthenticationError(f"{access.where} names a token server without an address") from error
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    permitted = access.plain or is_loopback(access.endpoint.host)
    if secret and not is_loopback(host):
        permitted = access.plain and origin.host == access.endpoint.hostname
    if origin.scheme == "http" and not permitted:
        raise AuthenticationError(
            f"{access.where} names a token server on plain HTTP ({show_address(realm)}), which is refused",
            hint="the registry's configuration is broken: a password would be readable on the way",
        )
    return origin


def _explain_refusal(what: str, credentials: Credentials | None, response: Response) -> RegistryError:
    error = explain_answer(response, what)
    if response.status not in {400, 401, 403}:
        return error
    if credentials is None:
        return AuthenticationError(f"{error}; there are no credentials for this registry")
    who = f"user {credentials.username}" if credentials.username else "the token"
    return AuthenticationError(f"{error}; tried {who} from {credentials.origin or 'the command line'}")


def _parse_token(body: bytes, now: float) -> _Token:
    """Raises `ValueError` for anything that is not a token."""
    document = json.loads(body)
    answer = document if isinstance(document, dict) else {}
    value = answer.get("token") or answer.get("access_token")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("no token")
    seconds = answer.get("expires_in")
    lifetime = _DEFAULT_LIFETIME
    if isinstance(seconds, int | float) and seconds > 0:
        lifetime = min(seconds, _LONGEST_LIFETIME)
    return _Token(value, now + lifetime * 0.8)
