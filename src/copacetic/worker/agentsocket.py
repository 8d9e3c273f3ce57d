# SPDX-License-Identifier: Apache-2.0
"""
The caller's ssh agent for one program: a socket of its own, whose connections are passed on.

The real socket isn't shown to the sandbox, so that its owner and mode don't matter and nothing of it can be changed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from copacetic.errors import SolverError

__all__ = ["forwarded_agent"]

_PIECE = 1 << 15
_WAITING = 16


@contextlib.contextmanager
def forwarded_agent(agent: Path, folder: Path, *, mode: int) -> Iterator[Path]:
    """Yield a socket in a folder that leads to the agent's. Raises `SolverError` when the agent doesn't answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(agent))
        except OSError as error:
            raise SolverError(f"the ssh agent at {agent} does not answer: {error.strerror}") from error
    listener = socket.socket(socket.AF_UNIX)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A socket's name has at most 108 bytes; this one is short wherever the folder is.
        listener.bind(f"/proc/self/fd/{handle}/agent")
        path = folder / "agent"
        path.chmod(mode)
        listener.listen(_WAITING)
        threading.Thread(target=_accept, args=(listener, agent), name="copa-ssh-agent", daemon=True).start()
        yield path
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, agent: Path) -> None:
    while True:
        try:
            inner, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_forward, args=(inner, agent), name="copa-ssh-agent", daemon=True).start()


def _forward(inner: socket.socket, agent: Path) -> None:
    with contextlib.suppress(OSError), inner, socket.socket(socket.AF_UNIX) as outer:
        outer.connect(str(agent))
        back = threading.Thread(target=_pass, args=(outer, inner), name="copa-ssh-agent", daemon=True)
        back.start()
        _pass(inner, outer)
        back.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
