# SPDX-License-Identifier: Apache-2.0
"""Connections over streams that are no sockets: what urllib3 and `http.client` want of a socket, and no more."""

from __future__ import annotations

import io
from typing import Any, Protocol

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from copacetic.http.connection import TimelyAnswer


class WaitableStream(Protocol):
    """Both directions of a connection that one can wait for."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def wait(self, seconds: float, /) -> bool: ...
    def close(self) -> None: ...


class _StreamSocket:
    """Like a socket, it is closed when the last that reads from it is."""

    def __init__(self, stream: WaitableStream, *, lent: bool) -> None:
        self._stream = stream
        self._lent = lent
        self._timeout: float | None = None
        self._users = 1

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def sendall(self, data: Any) -> None:
        self._stream.sendall(bytes(data))

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._users += 1
        return io.BufferedReader(_StreamReader(self))

    def recv(self, size: int) -> bytes:
        if self._timeout is not None and not self._stream.wait(self._timeout):
            raise TimeoutError("timed out")
        return self._stream.recv(1 if self._lent else size)

    def close(self) -> None:
        self._users -= 1
        if not self._users and not self._lent:
            self._stream.close()


class _StreamReader(io.RawIOBase):
    def __init__(self, socket: _StreamSocket) -> None:
        self._socket = socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._socket.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._socket.close()
        super().close()


def make_pool_class(stream: WaitableStream, *, patience_given: float, lent: bool) -> type[HTTPConnectionPool]:
    """Return a kind of connections that all go through one stream, for a pool manager."""

    class Answer(TimelyAnswer):
        patience = patience_given

    class Streamed(HTTPConnection):
        response_class = Answer

        def _new_conn(self) -> Any:
            return _StreamSocket(stream, lent=lent)

    class StreamPool(HTTPConnectionPool):
        ConnectionCls = Streamed

    return StreamPool
