# SPDX-License-Identifier: Apache-2.0
"""The engine's API over any stream: answers, streams, and connections that change their protocol."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from copacetic.connect.dial.process import ProcessStream
from copacetic.connect.engine import EngineAnswer, EngineClient
from copacetic.connect.stream import SocketStream, Stream
from copacetic.errors import DaemonUnreachableError
from support.server.faulty import Answer as Reply
from support.server.faulty import FaultyServer, faulty_server

BODY = bytes(range(256)) * 4096  # 1 MiB
PUMP = """
import os, socket, sys, threading
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def back():
    while data := connection.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back).start()
while data := os.read(0, 65536):
    connection.sendall(data)
"""


class Piece:
    """A peer that says one thing at once, and ends."""

    def __init__(self, text: bytes, last_words: str = "") -> None:
        self.text = text
        self.closed = 0
        self._last_words = last_words

    def recv(self, size: int, /) -> bytes:
        data, self.text = self.text[:size], self.text[size:]
        return data

    def sendall(self, data: bytes, /) -> None: ...

    def close(self) -> None:
        self.closed += 1

    def wait(self, seconds: float, /) -> bool:
        return True

    def last_words(self) -> str:
        return self._last_words


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


def client(connect: Callable[[], Stream], seconds: float = 5.0) -> EngineClient:
    return EngineClient(lambda _protocol: connect(), name="docker://x", seconds=seconds)


def by_socket(server: FaultyServer) -> Stream:
    return SocketStream(socket.create_connection(("127.0.0.1", server.port)))


def by_program(server: FaultyServer) -> Stream:
    return ProcessStream((sys.executable, "-c", PUMP, str(server.port)), name="x", missing="")


@pytest.mark.parametrize("connect", [by_socket, by_program])
def test_every_stream_carries_requests_and_what_is_streamed(
    server: FaultyServer, connect: Callable[[FaultyServer], Stream]
) -> None:
    server.on("GET", "/images/x/get", Reply(body=BODY))
    server.on("POST", "/images/load", lambda seen: Reply(body=b'{"size":%d}' % len(seen.body)))
    server.on("POST", "/containers/x/start", Reply(status=204))
    engine = client(lambda: connect(server))
    with engine.request("GET", "/images/x/get") as response:
        assert b"".join(iter(lambda: response.read(77_777), b"")) == BODY
    length = {"Content-Length": str(len(BODY))}
    pieces = (BODY[at : at + 65_536] for at in range(0, len(BODY), 65_536))
    with engine.request("POST", "/images/load", headers=length, body=pieces) as response:
        assert response.read_all(100) == b'{"size":%d}' % len(BODY)
    assert engine.post("/containers/x/start") == EngineAnswer(status=204, document={})
    assert engine.post("/missing", {"a": 1}).status == 404
    seen = server.requests[-1]
    assert (seen.headers["content-type"], seen.body) == ("application/json", b'{"a": 1}')
    assert (seen.headers["host"], seen.headers["connection"]) == ("docker", "close")


def test_each_request_has_a_connection_of_its_own_which_is_closed() -> None:
    made: list[Piece] = []

    def connect() -> Stream:
        made.append(Piece(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a":"b"}'))
        return made[-1]

    engine = client(connect)
    assert [engine.get("/a").document, engine.get("/b").document] == [{"a": "b"}, {"a": "b"}]
    assert [piece.closed > 0 for piece in made] == [True, True]


@pytest.mark.parametrize("rest", [b"", b"x", b"\r\n\r\n", b"PRI * HTTP/2.0\r\n" * 2_000])
def test_what_follows_a_change_of_protocol_is_the_new_protocol_s(rest: bytes) -> None:
    piece = Piece(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + rest)
    stream = client(lambda: piece).upgrade("/grpc", protocol="h2c")
    assert stream is piece
    assert (piece.text, piece.closed) == (rest, 0)


def test_a_refused_change_of_protocol_is_an_answer() -> None:
    piece = Piece(b'HTTP/1.1 404 Not Found\r\nContent-Length: 24\r\n\r\n{"message": "no page!!"}')
    answer = client(lambda: piece).upgrade("/grpc", protocol="h2c")
    assert isinstance(answer, EngineAnswer)
    assert (answer.status, answer.message, piece.closed) == (404, "no page!!", 1)


def test_a_refusal_without_end_ends() -> None:
    piece = Piece(b"HTTP/1.1 404 Not Found\r\n\r\n" + b"x" * 100_000)
    with pytest.raises(DaemonUnreachableError, match="the answer has more than 65536 bytes"):
        client(lambda: piece).upgrade("/grpc", protocol="h2c")
    assert piece.closed


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"])
def test_what_a_program_said_is_why_there_is_no_answer(text: bytes) -> None:
    piece = Piece(text, last_words="ssh ended with status 255: Permission denied")
    with pytest.raises(DaemonUnreachableError) as caught:
        client(lambda: piece).get("/version")
    assert str(caught.value) == ("docker://x: no engine answers there: ssh ended with status 255: Permission denied")
    assert piece.closed


def test_a_body_that_breaks_off_while_it_is_streamed_is_the_engine_s_fault(server: FaultyServer) -> None:
    server.on("GET", "/images/x/get", Reply(body=BODY, cut=1_000))
    broken = pytest.raises(DaemonUnreachableError, match="^docker://x: no engine answers there: the connection")
    with broken, client(lambda: by_socket(server)).request("GET", "/images/x/get") as response:
        while response.read(65_536):
            pass


def test_an_error_of_the_reader_is_the_reader_s(server: FaultyServer) -> None:
    server.on("GET", "/images/x/get", Reply(body=BODY))
    with pytest.raises(ZeroDivisionError), client(lambda: by_socket(server)).request("GET", "/images/x/get"):
        raise ZeroDivisionError


@contextmanager
def dripping(pause: float) -> Iterator[int]:
    """Serve one connection with an answer whose head never ends."""
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(pause):
                    connection.sendall(b"x")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("ask", [lambda engine: engine.get("/"), lambda engine: engine.upgrade("/", protocol="h2c")])
def test_an_engine_that_drips_is_left(ask: Callable[[EngineClient], object]) -> None:
    started = time.monotonic()
    with dripping(0.05) as port:
        connect = lambda: SocketStream(socket.create_connection(("127.0.0.1", port)))  # noqa: E731
        with pytest.raises(DaemonUnreachableError, match="less than 1000 bytes in a second"):
            ask(client(connect, seconds=0.5))
    assert time.monotonic() - started < 10


def test_a_request_may_wait_longer_than_others(server: FaultyServer) -> None:
    server.on("GET", "/slow", Reply(body=b"{}", delay=0.6))
    engine = client(lambda: by_socket(server), seconds=0.2)
    with engine.request("GET", "/slow", seconds=10) as response:
        assert response.read_all(10) == b"{}"
    with pytest.raises(DaemonUnreachableError, match="no answer in time"):
        engine.get("/slow")


def test_an_upload_that_is_refused_early_is_an_answer() -> None:
    class Refusing(Piece):
        def sendall(self, data: bytes, /) -> None:
            if BODY[:100] in data:
                raise BrokenPipeError

    piece = Refusing(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 7\r\n\r\nno room")
    with client(lambda: piece).request("POST", "/images/load", body=iter([BODY])) as response:
        assert (response.status, response.read_all(100)) == (507, b"no room")
