# SPDX-License-Identifier: Apache-2.0
"""
gRPC calls over an HTTP/2 connection, from both sides. Messages are bytes here; who calls knows what is in them.

The protocol is doc/PROTOCOL-HTTP2.md of gRPC. Nothing is compressed, and a message that claims to be is refused.
"""

from __future__ import annotations

import binascii
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Self
from urllib.parse import quote, unquote

from copacetic.buildkit.http2 import CANCEL, Connection, ConnectionLostError, Headers, Http2Stream
from copacetic.errors import CopaError, SolverError

__all__ = ["Call", "Code", "GrpcChannel", "Handler", "RpcError", "Server", "ServerCall"]

MAX_MESSAGE = 20 << 20
"""Bytes. Builders send at most 16 MiB."""
_PREFIX = 5
_logger = logging.getLogger(__name__)


class Code:
    """The status codes of gRPC that mean something here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class RpcError(SolverError):
    """A call that ended with another status than OK."""

    def __init__(self, code: int, message: str, *, details: bytes = b"") -> None:
        super().__init__(message or f"status {code}")
        self.code = code
        self.message = message
        """As it was sent, of any length and with any character."""
        self.details = details
        """A `google.rpc.Status` message, or nothing."""


class _Reader:
    """Puts messages together from a stream's data."""

    def __init__(self, stream: Http2Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def next(self, limit: float | None) -> bytes | None:
        """Return the next message, None at the end of the stream."""
        deadline = None if limit is None else time.monotonic() + limit
        while (size := self._size()) is None or len(self._buffer) < _PREFIX + size:
            piece = self._stream.read(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not piece:
                if self._stream.ended_cleanly:
                    if self._buffer:
                        raise RpcError(Code.INTERNAL, "the last message is cut short")
                    return None
                if self._stream.reset_code is not None:
                    return None
            self._buffer += piece
        message = bytes(self._buffer[_PREFIX : _PREFIX + size])
        del self._buffer[: _PREFIX + size]
        return message

    def _size(self) -> int | None:
        if len(self._buffer) < _PREFIX:
            return None
        if self._buffer[0]:
            raise RpcError(Code.UNIMPLEMENTED, "a message is compressed, which was not agreed on")
        size = int.from_bytes(self._buffer[1:_PREFIX], "big")
        if size > MAX_MESSAGE:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message has {size} bytes, more than {MAX_MESSAGE}")
        return size


def _frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


class Call:
    """One call as its client sees it. Used as a context manager, it is cancelled when it is left before its end."""

    def __init__(self, stream: Http2Stream, name: str) -> None:
        self._stream = stream
        self._reader = _Reader(stream)
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.cancel()

    def send(self, message: bytes, limit: float | None = None) -> None:
        """Raises `RpcError` with the server's status when the call is over already."""
        try:
            self._stream.send(_frame(message), limit)
        except BrokenPipeError:
            self._finish(0.0)
            raise RpcError(Code.INTERNAL, f"{self._name}: the builder takes no more data") from None
        except TimeoutError:
            text = f"{self._name}: the builder has taken no data for {limit:g} seconds"
            raise RpcError(Code.DEADLINE_EXCEEDED, text) from None

    def end(self) -> None:
        """Say that no more messages come."""
        try:
            self._stream.end()
        except BrokenPipeError:
            _logger.debug("%s: over before its end", self._name)

    def receive(self, limit: float | None = None) -> bytes | None:
        """
        Return the next message; None when the call ended well.

        Raises `RpcError` when it ended otherwise, `TimeoutError` after `limit` seconds, `ConnectionLostError`.
        """
        message = self._reader.next(limit)
        if message is None:
            self._finish(limit)
        return message

    def cancel(self) -> None:
        """Let the builder stop what it does for this call. Never raises and never waits."""
        self._stream.reset(CANCEL)

    def _finish(self, limit: float | None) -> None:
        """Raise what the status says, which comes in trailers, or in the headers when there was nothing else."""
        headers = dict(self._stream.wait_headers(limit) or ())
        trailers = dict(self._stream.trailers)
        status = trailers if "grpc-status" in trailers else headers
        if "grpc-status" not in status:
            raise self._no_status(headers)
        text = status["grpc-status"]
        code = int(text) if text.isdecimal() and len(text) < 10 else Code.UNKNOWN
        if code != Code.OK:
            details = _decode_binary(status.get("grpc-status-details-bin", ""))
            raise RpcError(code, unquote(status.get("grpc-message", "")), details=details)

    def _no_status(self, headers: Mapping[str, str]) -> RpcError:
        http = headers.get(":status", "")
        if http not in {"", "200"} or not headers.get("content-type", "application/grpc").startswith(
            "application/grpc"
        ):
            return RpcError(Code.UNIMPLEMENTED, f"{self._name}: HTTP status {http[:3]}, so no gRPC is spoken there")
        if self._stream.reset_code == CANCEL:
            return RpcError(Code.CANCELLED, f"{self._name} was cancelled")
        return RpcError(Code.INTERNAL, f"{self._name} broke off without a status (code {self._stream.reset_code})")


def _decode_binary(text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


class GrpcChannel:
    """Makes calls on a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def call(self, method: str, metadata: Headers = ()) -> Call:
        """Begin a call: `method` is `/package.Service/Method`."""
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "copacetic"),
            *metadata,
        ]
        return Call(self.connection.open(headers), method.rpartition("/")[2])

    def unary(self, method: str, request: bytes, *, limit: float | None, metadata: Headers = ()) -> bytes:
        """
        Call with one message and return the one that comes back.

        Raises `RpcError`, also with `DEADLINE_EXCEEDED` after `limit` seconds.
        """
        with self.call(method, metadata) as call:
            try:
                call.send(request, limit)
                call.end()
                answer = call.receive(limit)
                if answer is None or call.receive(limit) is not None:
                    raise RpcError(Code.INTERNAL, f"{method}: not one message came back")
            except TimeoutError:
                name = f"{self.connection.name} did not answer {method.rpartition('/')[2]}"
                raise RpcError(Code.DEADLINE_EXCEEDED, f"{name} within {limit:g} seconds") from None
        return answer


class ServerCall:
    """One call as its server sees it."""

    def __init__(self, stream: Http2Stream, headers: Headers) -> None:
        self._stream = stream
        self._headers = headers
        self._reader = _Reader(stream)

    def metadata(self, name: str) -> Sequence[str]:
        """Return all values of a key, in their order; keys are lower case."""
        return [value for key, value in self._headers if key == name]

    def receive(self, limit: float | None = None) -> bytes | None:
        """
        Return the next message; None when the client sends no more.

        Raises `RpcError` when the client has cancelled the call, `TimeoutError`.
        """
        message = self._reader.next(limit)
        if message is None and not self._stream.ended_cleanly:
            raise RpcError(Code.CANCELLED, "the client has cancelled the call")
        return message

    def send(self, message: bytes, limit: float | None = None) -> None:
        """Raises `BrokenPipeError` when the client has cancelled the call."""
        self._stream.send(_frame(message), limit)


Handler = Callable[[ServerCall], None]


class Server:
    """Answers calls by a table of methods. Its `serve` is what a connection's `accept` wants."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        self.methods = dict(methods)

    def serve(self, stream: Http2Stream) -> None:
        """Answer one call, whatever its handler does."""
        headers = stream.headers or ()
        path = dict(headers).get(":path", "")
        handler = self.methods.get(path)
        if handler is None:
            _send_status(stream, Code.UNIMPLEMENTED, f"unknown method {path[:200]}", first=True)
            return
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        code, message, details = Code.OK, "", b""
        try:
            handler(ServerCall(stream, headers))
        except RpcError as error:
            code, message, details = error.code, error.message, error.details
        except (ConnectionLostError, BrokenPipeError):
            raise
        except CopaError as error:
            code, message = Code.UNKNOWN, str(error)
        except Exception as error:
            _logger.exception("%s failed", path)
            code, message = Code.INTERNAL, f"the client failed: {type(error).__name__}"
        _send_status(stream, code, message, details)


def _send_status(stream: Http2Stream, code: int, message: str, details: bytes = b"", *, first: bool = False) -> None:
    trailers = [("grpc-status", str(code))]
    if details:
        trailers.append(("grpc-status-details-bin", b64encode(details).decode().rstrip("=")))
    if message:
        trailers.append(("grpc-message", quote(message[:4_000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")))
    if first:
        trailers = [(":status", "200"), ("content-type", "application/grpc"), *trailers]
    stream.send_headers(trailers, end=True)
