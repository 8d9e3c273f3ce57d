# SPDX-License-Identifier: Apache-2.0
"""Messages over a socket pair, in both directions: JSON objects with their lengths, and open files beside them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Channel", "Message", "receive_files"]

Message = Mapping[str, Any]
_LIMIT = 256 * 1024 * 1024
_MAX_FDS = 8


def receive_files(end: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Return some bytes and the files beside them. Programs don't inherit those, whatever Python's own call says."""
    data, fds, _flags, _address = socket.recv_fds(end, size, most)
    for handle in fds:
        os.set_inheritable(handle, False)
    return data, fds


class Channel:
    """One end. Names that are not UTF-8 pass as Python has them, with surrogate escapes."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Raises `OSError` when nobody listens any more."""
        data = json.dumps(message, separators=(",", ":")).encode("ascii")
        frame = len(data).to_bytes(4, "big") + data
        sent = socket.send_fds(self.socket, [frame], list(fds)) if fds else 0
        if sent < len(frame):  # or the other side may be done with it, and gone, already
            self.socket.sendall(memoryview(frame)[sent:])

    def receive(self) -> tuple[Message, list[int]] | None:
        """Return the next message and its files (not inherited by programs); None when the other end is closed."""
        head, fds = receive_files(self.socket, 4, _MAX_FDS)
        head += self._exactly(4 - len(head)) if head else b""
        if len(head) < 4:
            return None
        size = int.from_bytes(head, "big")
        if size > _LIMIT:
            raise OSError(f"a message of {size} bytes")
        data = self._exactly(size)
        if len(data) < size:
            return None
        message: Message = json.loads(data)
        return message, fds

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                break
            data += part
        return bytes(data)
