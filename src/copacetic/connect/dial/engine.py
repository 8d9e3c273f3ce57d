# SPDX-License-Identifier: Apache-2.0
"""
The few calls of the Docker Engine API that lead to a builder, over any stream: one request on each connection.

Versions are left out of the paths, so that the engine answers with its newest. What it says is limited in size and
time, and taken for what it is: text from somebody else.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from copacetic.connect.stream import Stream
from copacetic.errors import DaemonUnreachableError

__all__ = ["Answer", "Engine", "EngineVersion"]

HTTP1 = "http/1.1"
_LIMIT = 4 * 1024 * 1024
_HEAD_LIMIT = 64 * 1024
_API = re.compile(r"(\d{1,3})\.(\d{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the engine answers to a request."""

    status: int
    document: Mapping[str, Any]
    """Empty when the body isn't a JSON object."""

    @property
    def message(self) -> str:
        text = self.document.get("message")
        return text.strip()[:400] if isinstance(text, str) and text.strip() else f"HTTP status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVersion:
    """Who the engine is."""

    name: str
    version: str
    api: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


class Engine:
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

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None)

    def post(self, path: str, document: Mapping[str, Any] | None = None) -> Answer:
        return self._request("POST", path, document)

    def upgrade(self, path: str, *, protocol: str, document: Mapping[str, Any] | None = None) -> Stream | Answer:
        """Ask to go on in another protocol on the same connection; an `Answer` is a refusal."""
        stream = self.open_stream(HTTP1)
        try:
            head = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
            stream.sendall(_compose("POST", path, head, document))
            received = self._read(stream, lambda data: b"\r\n\r\n" in data, _HEAD_LIMIT)
            if re.match(rb"HTTP/1\.[01] 101 ", received):
                rest = received.partition(b"\r\n\r\n")[2]
                return PushbackStream(rest, stream) if rest else stream
            received += self._read(stream, _is_complete, _LIMIT, received)
        except OSError as error:
            stream.close()
            raise self._failed(error) from error
        except BaseException:
            stream.close()
            raise
        stream.close()
        return self._parse(received, "POST")

    def not_an_engine(self, reason: str) -> DaemonUnreachableError:
        return DaemonUnreachableError(f"{self.name}: no Docker engine answers there: {reason}")

    def _request(self, method: str, path: str, document: Mapping[str, Any] | None) -> Answer:
        stream = self.open_stream(HTTP1)
        try:
            stream.sendall(_compose(method, path, "Connection: close\r\n", document))
            received = self._read(stream, lambda data: False, _LIMIT)
            said = "" if received else stream.last_words()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            stream.close()
        if not received:
            raise self.not_an_engine(said or "it closes the connection without a word")
        return self._parse(received, method)

    def _read(self, stream: Stream, done: Callable[[bytes], bool], limit: int, before: bytes = b"") -> bytes:
        """Read until the end, or until what came (after `before`) is enough."""
        deadline = time.monotonic() + self.seconds
        data = b""
        while not done(before + data):
            if not stream.wait(deadline - time.monotonic()):
                raise DaemonUnreachableError(f"{self.name}: the engine gives no answer within {self.seconds:g} s")
            part = stream.recv(65_536)
            if not part:
                break
            data += part
            if len(data) > limit:
                raise self.not_an_engine(f"its answer has more than {limit} bytes")
        return data

    def _failed(self, error: OSError) -> DaemonUnreachableError:
        return DaemonUnreachableError(f"{self.name}: the engine went away: {error.strerror or error}")

    def _parse(self, received: bytes, method: str) -> Answer:
        from http.client import HTTPException, HTTPResponse

        response = HTTPResponse(_Received(received), method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            body = response.read()
        except (HTTPException, OSError, ValueError) as error:
            raise self.not_an_engine("it doesn't speak HTTP") from error
        try:
            document = json.loads(body) if body else None
        except (ValueError, RecursionError):
            document = None
        return Answer(status=response.status, document=document if isinstance(document, dict) else {})


class _Received:
    """All that `http.client` wants of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


def _compose(method: str, path: str, head: str, document: Mapping[str, Any] | None) -> bytes:
    body = b"" if document is None else json.dumps(document).encode()
    kind = "" if document is None else "Content-Type: application/json\r\n"
    length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: docker\r\n{head}{kind}{length}\r\n".encode() + body


def _is_complete(received: bytes) -> bool:
    """Tell whether a refusal is all there, on a connection that stays open after it."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d{1,9})\r", head + b"\r")
    if length is not None:
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n")


class PushbackStream:
    """A stream of which some bytes were read too early."""

    def __init__(self, first: bytes, inner: Stream) -> None:
        self._first = first
        self._inner = inner

    def recv(self, size: int, /) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._inner.recv(size)

    def sendall(self, data: bytes, /) -> None:
        self._inner.sendall(data)

    def close(self) -> None:
        self._inner.close()

    def wait(self, seconds: float, /) -> bool:
        return bool(self._first) or self._inner.wait(seconds)

    def last_words(self) -> str:
        return self._inner.last_words()
