# SPDX-License-Identifier: Apache-2.0
"""
Servers on loopback that do what a test tells them, also what no good server does.

`faulty_server` speaks HTTP: answers are queued per method and path, the last one of a queue is repeated, and what
came in is recorded. `cutting_proxy` stands before a real server and cuts connections.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    """Without the query."""
    query: Mapping[str, str]
    raw_query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back, and how it goes wrong."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    """Seconds of silence before the status line."""
    cut: int | None = None
    """Bytes of the body after which the connection is cut."""
    hang_up: bool = False
    """Cut the connection instead of answering."""
    length: bool = True
    """Whether a Content-Length is sent; without it the connection's end is the body's."""
    ranges: bool = False
    """Whether Range is understood."""


Script = Answer | Callable[[Seen], Answer]


def json_answer(document: object, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status=status,
        headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        body=json.dumps(document).encode(),
    )


class FaultyServer:
    """The script and the record; see `faulty_server`."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.port = 0
        self.requests: list[Seen] = []
        self._scripts: dict[tuple[str, str], deque[Script]] = {}
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def on(self, method: str, path: str, *answers: Script) -> None:
        """Queue answers for a method and path (without a query); `*` as the path answers all others."""
        with self._lock:
            self._scripts.setdefault((method, path), deque()).extend(answers)

    def replace(self, method: str, path: str, *answers: Script) -> None:
        """Forget the queue of a method and path, and begin a new one."""
        with self._lock:
            self._scripts.pop((method, path), None)
        self.on(method, path, *answers)

    def count(self, method: str, path: str) -> int:
        return sum(1 for seen in self.requests if (seen.method, seen.path) == (method, path))

    def answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.requests.append(seen)
            script: Script = Answer(status=404)
            queue = self._scripts.get((seen.method, seen.path)) or self._scripts.get((seen.method, "*"))
            if queue:
                script = queue.popleft() if len(queue) > 1 else queue[0]
        return script if isinstance(script, Answer) else script(seen)


@contextmanager
def faulty_server(*, tls: ssl.SSLContext | None = None) -> Iterator[FaultyServer]:
    """Serve on a free port of loopback until the context ends."""
    script = FaultyServer("http" if tls is None else "https")

    class Handler(_Handler):
        server_script = script
        tls_context = tls

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    script.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tunnel_proxy(target: str) -> Iterator[tuple[str, list[str]]]:
    """
    A proxy for CONNECT that leads everywhere to one `host:port`.

    Yields its own address and the list of the requests that came in, each with its headers.
    """
    host, _, port = target.rpartition(":")
    requests: list[str] = []

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = []
            while line := self.rfile.readline().decode().strip():
                head.append(line)
            requests.append("\n".join(head))
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=_pump, args=(server, self.connection), daemon=True)
                back.start()
                _pump(self.connection, server)
                back.join()

    with _listen(Tunnel) as address:
        yield address, requests


@contextmanager
def cutting_proxy(target: str, cuts: list[int]) -> Iterator[str]:
    """
    Forward to `host:port`, and yield an own `host:port`.

    `cuts` is consumed: each time a connection has carried that many bytes to the target, it is cut.
    """
    host, _, port = target.rpartition(":")

    class Tunnel(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
                back.start()
                self._forward(server)
                for end in (server, self.request):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                back.join()

        def _forward(self, server: socket.socket) -> None:
            carried = 0
            with suppress(OSError):
                while data := self.request.recv(1 << 16):
                    server.sendall(data)
                    carried += len(data)
                    if cuts and carried >= cuts[0]:
                        cuts.pop(0)
                        return

    with _listen(Tunnel) as address:
        yield address


@contextmanager
def _listen(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class _Handler(BaseHTTPRequestHandler):
    server_script: FaultyServer
    tls_context: ssl.SSLContext | None
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def setup(self) -> None:
        if self.tls_context is not None:
            self.request = self.tls_context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        if self.tls_context is not None:
            self.request.close()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        seen = Seen(
            method=self.command,
            path=f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.scheme else parts.path,
            query=dict(parse_qsl(parts.query)),
            raw_query=parts.query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
        )
        answer = self.server_script.answer(seen)
        if answer.delay:
            time.sleep(answer.delay)
        if answer.hang_up:
            self.close_connection = True
            return
        self._send(seen, _apply_range(seen, answer) if answer.ranges else answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = _serve  # noqa: N815

    def _send(self, seen: Seen, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        declared = {name.lower() for name in answer.headers}
        if answer.length and "content-length" not in declared and "transfer-encoding" not in declared:
            self.send_header("Content-Length", str(len(answer.body)))
        if not answer.length:
            self.send_header("Connection", "close")
        self.end_headers()
        if seen.method != "HEAD":
            self.wfile.write(answer.body[: answer.cut])
        if answer.cut is not None or not answer.length:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: tests look at the record."""


def _apply_range(seen: Seen, answer: Answer) -> Answer:
    wanted = seen.headers.get("range", "")
    if not wanted.startswith("bytes=") or answer.status != 200:
        return answer
    start = int(wanted.removeprefix("bytes=").partition("-")[0])
    total = len(answer.body)
    return Answer(
        status=206,
        headers={**answer.headers, "Content-Range": f"bytes {start}-{total - 1}/{total}"},
        body=answer.body[start:],
        cut=answer.cut,
        length=answer.length,
    )
