# SPDX-License-Identifier: Apache-2.0
"""
A token server as big registries have one (the distribution project's token specification), whose signed tokens a
real docker-registry accepts or refuses by itself.

    with token_server(tmp_path) as tokens, docker_registry(tmp_path, token=tokens.settings) as host:
        ...
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.server.certificate import Certificate, make_certificate
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer
from support.server.registry import PASSWORD, USER

SERVICE = "registry for tests"
ISSUER = "tokens for tests"
IDENTITY_TOKEN = "an identity token.of-a login"
PUBLIC = "public/"
"""Everybody may pull what begins so; the user may pull and push everything."""

_SCOPE = re.compile(r"repository:([a-z0-9/._-]+):([a-z,]+)")


@dataclass(slots=True)
class TokenServer:
    """What it was asked for, and what it hands out."""

    server: FaultyServer
    certificate: Certificate
    lifetime: float = 300.0
    """Of tokens, in seconds; negative ones have expired."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Who asked (empty: nobody in particular), and for which scopes."""

    @property
    def settings(self) -> Mapping[str, str]:
        """For docker-registry's `auth.token`."""
        return {
            "realm": f"{self.server.url}/token",
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(self.certificate.authority),
        }

    def answer_get(self, seen: Seen) -> Answer:
        """The older way: basic authentication, or none."""
        given = seen.headers.get("authorization", "")
        user, _, password = b64decode(given.removeprefix("Basic ")).decode().partition(":")
        if given and (user, password) != (USER, PASSWORD):
            return json_answer({"details": "incorrect username or password"}, 401)
        return self._grant(user, " ".join(_values(seen.raw_query, "scope")), seen.query.get("service", ""))

    def answer_post(self, seen: Seen) -> Answer:
        """OAuth 2: an identity token (or a password) for a bearer token."""
        form = seen.form
        by_token = form.get("grant_type") == "refresh_token" and form.get("refresh_token") == IDENTITY_TOKEN
        by_password = (form.get("username"), form.get("password")) == (USER, PASSWORD)
        if not (by_token or by_password):
            return json_answer({"error": "invalid_grant"}, 401)
        return self._grant(USER, form.get("scope", ""), form.get("service", ""))

    def _grant(self, user: str, scopes: str, service: str) -> Answer:
        self.asked.append((user, scopes))
        access = []
        for name, actions in _SCOPE.findall(scopes):
            allowed = [a for a in actions.split(",") if user or (a == "pull" and name.startswith(PUBLIC))]
            access.append({"type": "repository", "name": name, "actions": allowed})
        now = time.time()
        claims = {
            "iss": ISSUER, "sub": user, "aud": service, "exp": int(now + self.lifetime), "nbf": int(now - 600),
            "iat": int(now), "jti": str(now), "access": access,
        }  # fmt: skip
        token = self._sign(claims)
        return json_answer({"token": token, "access_token": token, "expires_in": max(60, int(self.lifetime))})

    def _sign(self, claims: Mapping[str, object]) -> str:
        der = ssl.PEM_cert_to_DER_cert(self.certificate.file.read_text())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [b64encode(der).decode()]}
        text = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.certificate.key],
            check=True, input=text.encode(), capture_output=True,
        )  # fmt: skip
        return f"{text}.{_encode(signed.stdout)}"


@contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    """Serve tokens on loopback until the context ends. Skips the test where there is no openssl."""
    certificate = make_certificate(folder / "tokens", key=("-newkey", "rsa:2048", "-nodes"))
    with faulty_server() as server:
        tokens = TokenServer(server, certificate)
        server.on("GET", "/token", tokens.answer_get)
        server.on("POST", "/token", tokens.answer_post)
        yield tokens


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _values(query: str, name: str) -> list[str]:
    from urllib.parse import parse_qsl

    return [value for key, value in parse_qsl(query) if key == name]
