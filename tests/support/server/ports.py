# SPDX-License-Identifier: Apache-2.0
"""Ports of loopback, and who listens there."""

from __future__ import annotations

import socket
import subprocess
import time

_START_LIMIT = 20.0
"""Seconds."""


def find_port() -> int:
    """Return one that nobody has; somebody may take it at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_listener(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a process listens; False when it ended instead, as when somebody took the port first."""
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False
