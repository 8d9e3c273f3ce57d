# SPDX-License-Identifier: Apache-2.0
"""The byte streams that everything here runs over: a socket, TLS, the pipes of a process, another stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["ByteStream", "Connect"]


class ByteStream(Protocol):
    """Both directions of a connection; `recv` and `sendall` are called from two threads at once."""

    def recv(self, size: int, /) -> bytes:
        """Return some bytes, at least one; b"" is the end. Raises `OSError`, or `SolverError` with the reason."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send everything. Raises as `recv` does."""
        ...

    def close(self) -> None:
        """End the connection; a `recv` or `sendall` that waits in another thread returns or raises."""
        ...


Connect = Callable[[], ByteStream]
"""Makes a new connection to a builder. Raises `BuilderUnreachableError`."""
