# SPDX-License-Identifier: Apache-2.0
"""
The session: the builder calls the client back, through an HTTP/2 connection inside a call.

What a session serves is a table of methods, put together by whoever opens it; a builder can reach nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from threading import Lock
from types import TracebackType
from typing import Any, Self

from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Call, GrpcChannel, Handler, RpcError, Server, ServerCall
from copacetic.buildkit.http2 import Connection, ConnectionLostError

__all__ = ["BuildSession", "parse"]

_METHOD = "/moby.buildkit.v1.Control/Session"
_PIECE = 1 << 18
"""Bytes in one message of the tunnel; builders take up to 4 MiB."""
_SERVING = 1


def parse(message_class: Any, data: bytes | None) -> Any:
    """Return the message in bytes from a builder. Raises `RpcError` for what is none."""
    from google.protobuf.message import DecodeError

    try:
        return message_class.FromString(data or b"")
    except (DecodeError, ValueError) as error:
        raise RpcError(13, f"what should be a {message_class.DESCRIPTOR.name} can't be read: {error}") from error


class _Tunnel:
    """A call of byte messages as a byte stream."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._message = schema.control().BytesMessage
        self._rest = b""
        self._sending = Lock()

    def recv(self, size: int, /) -> bytes:
        while not self._rest:
            try:
                data = self._call.receive()
            except RpcError as error:
                raise OSError(0, str(error)) from error
            except ConnectionLostError as error:
                raise OSError(0, str(error)) from error
            if data is None:
                return b""
            self._rest = parse(self._message, data).data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def sendall(self, data: bytes, /) -> None:
        with self._sending:
            for start in range(0, len(data), _PIECE):
                message = self._message(data=data[start : start + _PIECE])
                try:
                    self._call.send(message.SerializeToString())
                except (RpcError, ConnectionLostError) as error:
                    raise OSError(0, str(error)) from error

    def close(self) -> None:
        self._call.cancel()


class BuildSession:
    """A context manager: open while the builder may call. `id` is what a solve names."""

    def __init__(self, channel: GrpcChannel, methods: Mapping[str, Handler]) -> None:
        self.id = secrets.token_hex(16)
        self._channel = channel
        self._methods = {"/grpc.health.v1.Health/Check": _check_health, **methods}
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        metadata = [
            ("x-docker-expose-session-uuid", self.id),
            ("x-docker-expose-session-name", "copacetic"),
            ("x-docker-expose-session-sharedkey", ""),
            *(("x-docker-expose-session-grpc-method", method) for method in self._methods),
        ]
        tunnel = _Tunnel(self._channel.call(_METHOD, metadata))
        name = f"the session with {self._channel.connection.name}"
        self._connection = Connection(tunnel, client=False, name=name, accept=Server(self._methods).serve)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def failure(self) -> ConnectionLostError | None:
        """Why the session has ended on its own, if it has."""
        return self._connection.failure if self._connection else None


def _check_health(call: ServerCall) -> None:
    """Answer the builder's question whether we are still here, which it asks every few seconds."""
    call.receive()
    call.send(schema.session().HealthCheckResponse(status=_SERVING).SerializeToString())
