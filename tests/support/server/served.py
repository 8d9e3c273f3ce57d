# SPDX-License-Identifier: Apache-2.0
"""Files in memory, served on loopback with ETags: repositories that a test can change and break while they are used."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_plus


@dataclass(slots=True)
class Served:
    """
    What is served, by path; `statuses` make a path fail, `requests` tells what was asked for. With a `login`
    (`user:password`) nobody else is answered. As in S3, a plus in an address is a blank.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    login: str = ""
    requests: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """The status of each answer that was sent."""

    def add_folder(self, folder: Path, prefix: str = "") -> None:
        """Serve all files below a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{prefix}{path.relative_to(folder)}"] = path.read_bytes()


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    """Serve until the context ends; the address is filled in."""
    server = _QuietServer(("127.0.0.1", 0), _handler(served))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_arguments: object) -> None:
        """A client that goes away is what some tests want."""


def _basic(login: str) -> str:
    return f"Basic {b64encode(login.encode()).decode()}" if login else ""


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote_plus(self.path).lstrip("/")
            served.requests.append(path)
            data = served.files.get(path)
            status = served.statuses.get(path, 200 if data is not None else 404)
            if self.headers.get("Authorization", "") != _basic(served.login):
                status = 401
            tag = f'"{hashlib.sha256(data or b"").hexdigest()}"'
            if status == 200 and self.headers.get("If-None-Match") == tag:
                status, data = 304, b""
            served.answers.append(status)
            self.send_response(status)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(data or b"") if status == 200 else 0))
            self.end_headers()
            if status == 200:
                self.wfile.write(data or b"")

        def log_message(self, *_arguments: object) -> None:
            pass

    return Handler
