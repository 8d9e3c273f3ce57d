# SPDX-License-Identifier: Apache-2.0
"""
One request and its response on an HTTP/2 connection, for threads.

What arrives is acknowledged when it is taken, so a slow reader slows the peer down instead of filling the memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, RLock
from typing import Any, Protocol

from copacetic.errors import SolverError

__all__ = ["CANCEL", "ConnectionLostError", "Headers", "Http2Stream", "decode_headers", "tell_stream"]

Headers = Sequence[tuple[str, str]]

CANCEL = 8
"""The error code of a stream that one side has lost interest in."""
_ACKNOWLEDGE = 1 << 18
"""Bytes that a reader takes before the peer hears of it."""
_MAX_PIECES = 65_536
"""Of data that wait on a stream: empty frames take no window, and memory all the same."""


class Carrier(Protocol):
    """The connection, as its streams use it."""

    lock: RLock
    failure: ConnectionLostError | None

    def acknowledge(self, number: int, size: int, *, ended: bool) -> None: ...

    def room(self, number: int) -> int: ...

    def send_headers(self, number: int, headers: Headers, *, end: bool) -> None: ...

    def send_data(self, number: int, data: bytes) -> None: ...

    def send_end(self, number: int) -> None: ...

    def reset(self, number: int, code: int) -> None: ...


class ConnectionLostError(SolverError):
    """The connection ended, or the peer broke the protocol."""


class Http2Stream:
    """One request and its response. Every wait takes a limit in seconds; None waits for ever."""

    def __init__(self, connection: Carrier, number: int) -> None:
        self.number = number
        self.headers: Headers | None = None
        self.trailers: Headers = ()
        self.reset_code: int | None = None
        self._connection = connection
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._taken = 0
        self._changed = Condition(connection.lock)

    def wait_headers(self, limit: float | None) -> Headers | None:
        """Return the peer's first headers; None when the stream was reset instead. Raises `TimeoutError`."""
        with self._changed:
            self._wait(lambda: self.headers is not None or self.reset_code is not None, limit)
            return self.headers

    def read(self, limit: float | None) -> bytes:
        """Return the next data; b"" at the end, see `trailers` and `reset_code` then. Raises `TimeoutError`."""
        with self._changed:
            self._wait(lambda: bool(self._pieces) or self._ended or self.reset_code is not None, limit)
            if not self._pieces:
                return b""
            data, size = self._pieces.popleft()
            self._taken += size
            if self._taken >= _ACKNOWLEDGE or not self._pieces:
                self._connection.acknowledge(self.number, self._taken, ended=self._ended)
                self._taken = 0
            return data

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        self._connection.send_headers(self.number, headers, end=end)

    def send(self, data: bytes, limit: float | None = None) -> None:
        """Send data as the peer's windows allow. Raises `TimeoutError`, and `BrokenPipeError` on a reset stream."""
        view, deadline = memoryview(data), None if limit is None else time.monotonic() + limit
        while view:
            with self._changed:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._wait(lambda: self.reset_code is not None or self._connection.room(self.number) > 0, left)
                if self.reset_code is not None:
                    raise BrokenPipeError(f"the peer reset the stream with code {self.reset_code}")
                size = min(len(view), self._connection.room(self.number))
                self._connection.send_data(self.number, view[:size].tobytes())
                view = view[size:]

    def end(self) -> None:
        """Say that no more data comes from here."""
        with self._changed:
            if self.reset_code is None:
                self._connection.send_end(self.number)

    def reset(self, code: int = CANCEL) -> None:
        """Give the stream up, on both sides. Never raises and never waits."""
        self._connection.reset(self.number, code)

    def notify(self) -> None:
        """Wake up whoever waits; the lock is held."""
        self._changed.notify_all()

    def arrived(self, data: bytes, size: int) -> None:
        """Take data from the connection's reader; `size` counts the padding as well."""
        self._pieces.append((data, size))
        if len(self._pieces) > _MAX_PIECES:
            raise ConnectionLostError("the builder sends more pieces of data than anyone can read")

    def ended(self) -> None:
        self._ended = True
        self.headers = self.headers or ()

    @property
    def ended_cleanly(self) -> bool:
        """Whether the peer has said that no more comes, and all of it was read."""
        return self._ended and not self._pieces

    @property
    def unread(self) -> int:
        return self._taken + sum(size for _, size in self._pieces)

    def _wait(self, ready: Callable[[], bool], limit: float | None) -> None:
        if not self._changed.wait_for(lambda: ready() or self._connection.failure is not None, limit):
            raise TimeoutError
        if not ready():
            assert self._connection.failure is not None
            raise self._connection.failure


def tell_stream(stream: Http2Stream, kind: str, event: Any) -> None:
    """Pass on to a stream what happened to it."""
    match kind:
        case "ResponseReceived":
            stream.headers = decode_headers(event.headers)
        case "DataReceived":
            stream.arrived(event.data, event.flow_controlled_length)
        case "TrailersReceived":
            stream.trailers = decode_headers(event.headers)
        case "StreamEnded":
            stream.ended()
        case "StreamReset":
            stream.reset_code = int(event.error_code)
    stream.notify()


def decode_headers(headers: Sequence[tuple[Any, Any]]) -> Headers:
    return [
        (bytes(name).decode("utf-8", "replace"), bytes(value).decode("utf-8", "replace")) for name, value in headers
    ]
