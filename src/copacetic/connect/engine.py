# SPDX-License-Identifier: Apache-2.0
"""
The Docker Engine API over any stream, one request on each connection.

Versions are left out of the paths, so that the engine answers with its newest. What it says is limited in size and
time, and taken for what it is: text from somebody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from copacetic.connect.address import SshAddress, TcpAddress, UnixAddress
from copacetic.connect.dial.ssh import connect_docker
from copacetic.connect.dial.tcp import connect_tcp
from copacetic.connect.dial.unix import connect_unix
from copacetic.connect.dockercontext import EnginePlace
from copacetic.connect.stream import Stream
from copacetic.errors import DaemonUnreachableError, IntegrityError, UnreachableError
from copacetic.http import HttpClient, HttpSettings, Response
from copacetic.http.pool import StreamPools

__all__ = ["EngineAnswer", "EngineClient", "EngineVersion", "open_engine"]

HTTP1 = "http/1.1"
_ADDRESS = "http://docker"
"""A name that nobody looks up: the stream leads there."""
_LIMIT = 4 * 1024 * 1024
_REFUSAL_LIMIT = 64 * 1024
_API = re.compile(r"(\d{1,3})\.(\d{1,4})")


class EngineAnswer(Struct, frozen=True, kw_only=True):
    """What the engine answers to a request."""

    status: int
    document: Mapping[str, Any]
    """Empty when the body isn't a JSON object."""

    @property
    def message(self) -> str:
        text = self.document.get("message")
        return text.strip()[:400] if isinstance(text, str) and text.strip() else f"HTTP status {self.status}"


class EngineVersion(Struct, frozen=True, kw_only=True):
    """Who the engine is."""

    name: str
    version: str
    api: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


class EngineClient:
    """An engine at one place; `open_stream` connects, for a protocol of RFC 7301 where TLS needs one."""

    def __init__(self, open_stream: Callable[[str], Stream], *, name: str, seconds: float) -> None:
        self.open_stream = open_stream
        self.name = name
        self.seconds = seconds

    def version(self) -> EngineVersion:
        """Raises `DaemonUnreachableError` when this isn't a Docker engine."""
        answer = self.get("/version")
        api = _API.fullmatch(str(answer.document.get("ApiVersion", "")))
        if answer.status != 200 or api is None:
            raise self.not_an_engine(f"it answers to /version with {answer.message}")
        components = answer.document.get("Components")
        names = (
            [str(c.get("Name", "")) for c in components if isinstance(c, dict)] if isinstance(components, list) else []
        )
        name = "Podman" if any("podman" in name.lower() for name in names) else "Docker Engine"
        return EngineVersion(
            name=name, version=str(answer.document.get("Version", ""))[:60], api=(int(api[1]), int(api[2]))
        )

    def get(self, path: str) -> EngineAnswer:
        with self.request("GET", path) as response:
            return _parse(response, _LIMIT)

    def post(self, path: str, document: Mapping[str, Any] | None = None) -> EngineAnswer:
        headers, body = _encode(document)
        with self.request("POST", path, headers=headers, body=body) as response:
            return _parse(response, _LIMIT)

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        seconds: float | None = None,
    ) -> Iterator[Response]:
        """
        Yield the answer to a request, whose body is still to be read.

        `seconds` is how long the engine may be silent. Raises `DaemonUnreachableError`, also for what goes wrong with
        the body later.
        """
        stream = self.open_stream(HTTP1)
        known = {"Connection": "close", **(headers or {})}
        with self._explained(stream, path):
            try:
                with self._send(stream, method, path, known, body, seconds=seconds) as response:
                    yield response
            finally:
                stream.close()

    def upgrade(self, path: str, *, protocol: str, document: Mapping[str, Any] | None = None) -> Stream | EngineAnswer:
        """Ask to go on in another protocol on the same connection; an `EngineAnswer` is a refusal."""
        stream = self.open_stream(HTTP1)
        headers, body = _encode(document)
        known = {"Connection": "Upgrade", "Upgrade": protocol, **headers}
        answer = None
        with self._explained(stream, path):
            try:
                response = self._send(stream, "POST", path, known, body, lent=True)
                answer = None if response.status == 101 else _parse(response, _REFUSAL_LIMIT)
            except BaseException:
                stream.close()
                raise
        if answer is None:
            return stream
        stream.close()
        return answer

    def not_an_engine(self, reason: str) -> DaemonUnreachableError:
        return DaemonUnreachableError(f"{self.name}: no engine answers there: {reason}")

    def _send(
        self,
        stream: Stream,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        *,
        seconds: float | None = None,
        lent: bool = False,
    ) -> Response:
        patience = self.seconds if seconds is None else seconds
        settings = HttpSettings(read_timeout=patience, patience=patience, retries=0)
        client = HttpClient(settings, pools=StreamPools(settings, stream, lent=lent))
        return client.open(method, f"{_ADDRESS}{path}", headers=headers, body=body, redirect=False)

    @contextmanager
    def _explained(self, stream: Stream, path: str) -> Iterator[None]:
        """What a program said on the way, ssh for example, says more than that the connection broke."""
        try:
            yield
        except (UnreachableError, IntegrityError) as error:
            said = stream.last_words() or str(error).removeprefix(f"{_ADDRESS}{path}: ")
            raise self.not_an_engine(said) from error


def open_engine(place: EnginePlace, seconds: float, *, name: str) -> EngineClient:
    """Return the client of an engine; each request connects, and takes no longer for that than `seconds`."""

    def open_stream(protocol: str) -> Stream:
        match place.host:
            case UnixAddress() as host:
                return connect_unix(host, name=name, seconds=seconds)
            case TcpAddress() as host:
                return connect_tcp(host, place.tls, protocol=protocol, name=name, seconds=seconds)
            case SshAddress() as host:
                return connect_docker(host, name=name, seconds=seconds)

    return EngineClient(open_stream, name=name, seconds=seconds)


def _encode(document: Mapping[str, Any] | None) -> tuple[Mapping[str, str], bytes]:
    return ({}, b"") if document is None else ({"Content-Type": "application/json"}, json.dumps(document).encode())


def _parse(response: Response, limit: int) -> EngineAnswer:
    body = response.read_all(limit)
    try:
        document = json.loads(body) if body else None
    except (ValueError, RecursionError):
        document = None
    return EngineAnswer(status=response.status, document=document if isinstance(document, dict) else {})
