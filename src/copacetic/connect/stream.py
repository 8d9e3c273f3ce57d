# SPDX-License-Identifier: Apache-2.0
"""Byte streams to a daemon, and the one over a socket. One thread reads while others write; any of them may close."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

from copacetic.errors import DaemonUnreachableError

__all__ = ["Dial", "Duplex", "PlainSocket", "SocketStream", "Stream", "read_exactly", "wait_readable"]


class Duplex(Protocol):
    """Both directions of a connection; `recv` and `sendall` are called from two threads at once."""

    def recv(self, size: int, /) -> bytes:
        """Return some bytes, at least one; b"" is the end. Raises `OSError`, or `DaemonUnreachableError`."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send everything. Raises as `recv` does."""
        ...

    def close(self) -> None:
        """End the connection; a `recv` or `sendall` that waits in another thread returns or raises."""
        ...


class Stream(Duplex, Protocol):
    """
    A stream that one can wait for, and that knows why it ended.

    After `close`, which may be called twice, `recv` gives the end.
    """

    def wait(self, seconds: float, /) -> bool:
        """Wait until `recv` has something to say, be it the end; False when the time is over. Only before `recv`s."""
        ...

    def last_words(self) -> str:
        """What the other side said beside the stream before it ended; empty when nothing."""
        ...


Dial: TypeAlias = Callable[[], Stream]
"""Connects, within a limited time. Raises `DaemonUnreachableError` with a message that names the address."""


class PlainSocket(Protocol):
    """What is used of a socket."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class SocketStream:
    """A connected, blocking socket."""

    def __init__(self, connected: PlainSocket) -> None:
        self._socket = connected
        self._closed = False
        self._lock = threading.Lock()

    def recv(self, size: int, /) -> bytes:
        try:
            return self._socket.recv(size)
        except OSError:
            if self._closed:
                return b""
            raise

    def sendall(self, data: bytes, /) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # closing alone doesn't end a `recv` of another thread
        self._socket.close()

    def wait(self, seconds: float, /) -> bool:
        return wait_readable(self._socket.fileno(), seconds)

    def last_words(self) -> str:
        return ""


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Wait for a file descriptor to have data or its end."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def read_exactly(stream: Stream, size: int, *, seconds: float, name: str) -> bytes:
    """Read that many bytes, fewer only at the end. Raises `DaemonUnreachableError` when the time is over."""
    deadline = time.monotonic() + seconds
    data = b""
    while len(data) < size:
        if not stream.wait(deadline - time.monotonic()):
            raise DaemonUnreachableError(f"{name}: no answer within {seconds:g} s")
        part = stream.recv(size - len(data))
        if not part:
            break
        data += part
    return data
