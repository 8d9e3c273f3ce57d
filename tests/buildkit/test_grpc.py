# SPDX-License-Identifier: Apache-2.0
"""gRPC and HTTP/2 over a socket pair: two honest sides, and peers that are not."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from copacetic.buildkit.grpc import MAX_MESSAGE, Code, GrpcChannel, Handler, RpcError, Server, ServerCall
from copacetic.buildkit.http2 import Connection, ConnectionLostError

SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@contextmanager
def _served(**methods: Handler) -> Iterator[GrpcChannel]:
    """Connect a client with a server of these methods."""
    ours, theirs = socket.socketpair()
    server = Server({f"/test/{name}": handler for name, handler in methods.items()})
    accepting = Connection(theirs, client=False, name="the client", accept=server.serve)
    connection = Connection(ours, client=True, name="the builder")
    try:
        connection.wait_greeting(5)
        yield GrpcChannel(connection)
    finally:
        connection.close()
        accepting.close()


@contextmanager
def _against(peer: Callable[[socket.socket], None]) -> Iterator[GrpcChannel]:
    """Connect a client with a peer that writes what it wants, in a thread; what it is sent is read and dropped."""
    ours, theirs = socket.socketpair()

    def drop() -> None:
        with suppress(OSError):
            while theirs.recv(1 << 16):
                pass

    def play() -> None:
        with suppress(OSError):
            peer(theirs)

    threads = [threading.Thread(target=target, daemon=True) for target in (drop, play)]
    connection = Connection(ours, client=True, name="the builder")
    for thread in threads:
        thread.start()
    try:
        yield GrpcChannel(connection)
    finally:
        connection.close()
        with suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        theirs.close()


def _echo(call: ServerCall) -> None:
    while (message := call.receive()) is not None:
        call.send(message)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _respond(headers: bytes = b"\x88", *, stream: int = 1, end: bool = False) -> bytes:
    """A HEADERS frame of a literal header block; 0x88 is `:status: 200`."""
    return _frame(1, 0x4 | end, stream, headers)


def _literal(name: str, value: str) -> bytes:
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 5 << 20], ids=str)
def test_a_message_of_any_size_goes_there_and_back(size: int) -> None:
    message = random.Random(size).randbytes(size)

    with _served(echo=_echo) as channel:
        assert channel.unary("/test/echo", message, limit=30) == message


def test_many_calls_at_once_share_a_connection() -> None:
    found: dict[int, bytes] = {}

    with _served(echo=_echo) as channel:

        def call(number: int) -> None:
            found[number] = channel.unary("/test/echo", bytes((number,)) * 100_000, limit=30)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 5
        while channel.connection.streams and time.monotonic() < deadline:
            time.sleep(0.01)
        assert channel.connection.streams == 0

    assert found == {number: bytes((number,)) * 100_000 for number in range(60)}


def test_metadata_arrives_with_repeated_keys() -> None:
    seen: list[Any] = []

    def look(call: ServerCall) -> None:
        call.receive()
        seen.extend(call.metadata("a-key"))
        call.send(b"")

    with _served(look=look) as channel:
        channel.unary("/test/look", b"", limit=5, metadata=[("a-key", "one"), ("a-key", "two")])

    assert seen == ["one", "two"]


def test_a_status_comes_with_its_code_and_its_message_whatever_is_in_it() -> None:
    text = 'no "such" thing: 100 %, new\nline, ümlaut'

    def refuse(call: ServerCall) -> None:
        call.receive()
        raise RpcError(Code.NOT_FOUND, text)

    with _served(refuse=refuse) as channel, pytest.raises(RpcError) as caught:
        channel.unary("/test/refuse", b"", limit=5)

    assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, text)
    assert "\n" not in str(caught.value)


def test_an_unknown_method_is_unimplemented() -> None:
    with _served() as channel, pytest.raises(RpcError, match="unknown method /test/nothing") as caught:
        channel.unary("/test/nothing", b"", limit=5)

    assert caught.value.code == Code.UNIMPLEMENTED


def test_a_handler_that_breaks_tells_nothing_of_its_inside() -> None:
    def break_down(call: ServerCall) -> None:
        raise ValueError("a secret")

    with _served(broken=break_down) as channel, pytest.raises(RpcError, match="ValueError") as caught:
        channel.unary("/test/broken", b"", limit=5)

    assert "a secret" not in str(caught.value)


def test_silence_ends_in_a_reason() -> None:
    def wait(call: ServerCall) -> None:
        call.receive()
        with suppress(RpcError):
            call.receive()
        time.sleep(2)

    with _served(wait=wait) as channel, pytest.raises(RpcError) as caught:
        channel.unary("/test/wait", b"", limit=0.2)

    assert str(caught.value) == "the builder did not answer wait within 0.2 seconds"


def test_a_cancelled_call_is_cancelled_for_the_server_too() -> None:
    started, cancelled = threading.Event(), threading.Event()

    def wait(call: ServerCall) -> None:
        call.receive()
        started.set()
        try:
            call.receive()
        except RpcError as error:
            assert error.code == Code.CANCELLED
            cancelled.set()

    with _served(wait=wait, echo=_echo) as channel:
        call = channel.call("/test/wait")
        call.send(b"x")
        assert started.wait(5)
        call.cancel()
        assert cancelled.wait(5)
        assert channel.unary("/test/echo", b"still here", limit=5) == b"still here"


def test_a_message_beyond_the_limit_is_refused_before_it_is_read_and_the_connection_stays() -> None:
    def flood(call: ServerCall) -> None:
        call.receive()
        with suppress(BrokenPipeError):
            call.send(bytes(MAX_MESSAGE + 1))

    with _served(flood=flood, echo=_echo) as channel:
        with pytest.raises(RpcError, match=f"a message has {MAX_MESSAGE + 1} bytes") as caught:
            channel.unary("/test/flood", b"", limit=30)
        assert channel.unary("/test/echo", b"x", limit=5) == b"x"

    assert caught.value.code == Code.RESOURCE_EXHAUSTED


def test_a_server_refuses_messages_beyond_the_limit_as_well() -> None:
    with _served(echo=_echo) as channel:
        call = channel.call("/test/echo")
        with pytest.raises(RpcError):
            call.send(bytes(MAX_MESSAGE + 1), 30)
            call.receive(30)
        assert channel.unary("/test/echo", b"x", limit=5) == b"x"


def test_who_does_not_read_is_not_sent_more_than_fits() -> None:
    sent = [0]

    def flood(call: ServerCall) -> None:
        call.receive()
        with suppress(BrokenPipeError, ConnectionLostError):
            while True:
                call.send(bytes(1 << 16))
                sent[0] += 1 << 16

    with _served(flood=flood, echo=_echo) as channel:
        call = channel.call("/test/flood")
        call.send(b"")
        before = -1
        while before != sent[0]:
            before = sent[0]
            time.sleep(0.2)
        assert 1 << 20 < sent[0] < 8 << 20
        assert channel.unary("/test/echo", b"others go on", limit=5) == b"others go on"
        assert call.receive(5) == bytes(1 << 16)
        call.cancel()


def test_a_client_may_open_only_so_many_calls() -> None:
    started = threading.Semaphore(0)

    def wait(call: ServerCall) -> None:
        started.release()
        with suppress(RpcError):
            call.receive()

    with _served(wait=wait) as channel, pytest.raises(ConnectionLostError, match="takes no more calls"):
        for _ in range(200):
            channel.call("/test/wait")


def _hang(_peer: socket.socket) -> None:
    time.sleep(1)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno gRPC here, only text for people\n",
            "said nothing",
        ),
        (b"\x15\x03\x03\x00\x02\x02\x46" * 9, "said nothing"),
        (bytes(4096), "doesn't speak HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "said nothing for 0.3 seconds|doesn't speak HTTP/2"),
        (SETTINGS + _frame(0, 1, 0, b"data on no stream"), "doesn't speak HTTP/2"),
        (SETTINGS + _frame(5, 4, 1, bytes((0, 0, 0, 2)) + b"\x88"), "doesn't speak HTTP/2"),
        (
            SETTINGS + _frame(7, 0, 0, struct.pack(">II", 0, 11) + b"too many pings"),
            "ended the connection: too many pings",
        ),
        (SETTINGS + _frame(1, 5, 2, b"\x83\x86\x84"), "doesn't speak HTTP/2|opens streams"),
    ],
    ids=["http/1", "tls", "zeros", "ssh", "stray data", "push", "goaway", "a stream of its own"],
)
def test_a_peer_that_is_no_builder_is_named_as_such(written: bytes, problem: str) -> None:
    def peer(stream: socket.socket) -> None:
        stream.sendall(written)
        time.sleep(1)

    with _against(peer) as channel, pytest.raises(ConnectionLostError, match=problem) as caught:
        channel.connection.wait_greeting(0.3)
        channel.unary("/x/y", b"", limit=1)
        pytest.fail("it was taken for a builder")

    assert "the builder" in str(caught.value)


def test_a_peer_that_says_nothing_is_not_waited_for_long() -> None:
    with _against(_hang) as channel, pytest.raises(ConnectionLostError, match=r"said nothing for 0\.2 seconds"):
        channel.connection.wait_greeting(0.2)


def test_a_peer_that_goes_away_in_the_middle_ends_the_call() -> None:
    def peer(stream: socket.socket) -> None:
        stream.sendall(SETTINGS)
        time.sleep(0.1)
        stream.sendall(_respond())
        time.sleep(0.1)
        stream.shutdown(socket.SHUT_RDWR)

    with _against(peer) as channel, pytest.raises(ConnectionLostError, match="the builder closed the connection"):
        channel.unary("/x/y", b"", limit=5)


GRPC = b"\x88" + _literal("content-type", "application/grpc")


@pytest.mark.parametrize(
    ("frames", "code", "problem"),
    [
        (_respond(b"\x8d", end=True), Code.UNIMPLEMENTED, "HTTP status 404"),
        (_respond(b"\x88" + _literal("content-type", "text/html"), end=True), Code.UNIMPLEMENTED, "no gRPC is spoken"),
        (_respond(GRPC, end=True), Code.INTERNAL, "without a status"),
        (
            _respond(GRPC + _literal("grpc-status", "5") + _literal("grpc-message", "gone%20%C3%BC"), end=True),
            5,
            "gone ü",
        ),
        (_respond(GRPC + _literal("grpc-status", "zero"), end=True), Code.UNKNOWN, "status 2"),
        (_respond(GRPC) + _frame(0, 1, 1, bytes((1, 0, 0, 0, 1, 0))), Code.UNIMPLEMENTED, "compressed"),
        (
            _respond(GRPC) + _frame(0, 1, 1, bytes((0, 0xFF, 0xFF, 0xFF, 0xFF))),
            Code.RESOURCE_EXHAUSTED,
            "4294967295 bytes",
        ),
        (_respond(GRPC) + _frame(0, 1, 1, bytes((0, 0, 0, 0, 9, 1))), Code.INTERNAL, "cut short"),
        (_respond(GRPC) + _frame(3, 0, 1, struct.pack(">I", 8)), Code.CANCELLED, "was cancelled"),
        (_respond(GRPC) + _frame(3, 0, 1, struct.pack(">I", 2)), Code.INTERNAL, "broke off"),
        (
            _respond(GRPC) + _frame(0, 0, 1, bytes(5)) * 2 + _respond(_literal("grpc-status", "0"), end=True),
            Code.INTERNAL,
            "not one message",
        ),
    ],
    ids=[
        "404",
        "html",
        "no status",
        "trailers only",
        "no number",
        "compressed",
        "oversized",
        "cut",
        "cancelled",
        "reset",
        "two",
    ],
)
def test_an_answer_that_is_no_answer_is_an_error_with_a_code(frames: bytes, code: int, problem: str) -> None:
    def peer(stream: socket.socket) -> None:
        stream.sendall(SETTINGS)
        time.sleep(0.1)
        stream.sendall(frames)
        time.sleep(0.3)

    with _against(peer) as channel, pytest.raises(RpcError, match=problem) as caught:
        channel.connection.wait_greeting(5)
        channel.unary("/x/y", b"", limit=5)

    assert caught.value.code == code


def test_headers_beyond_all_measure_end_the_connection() -> None:
    block = _literal("x", "y" * 120) * 100

    def peer(stream: socket.socket) -> None:
        stream.sendall(SETTINGS + _frame(1, 0, 1, block))
        for _ in range(200):
            stream.sendall(_frame(9, 0, 1, block))
        time.sleep(1)

    with _against(peer) as channel, pytest.raises(ConnectionLostError):
        channel.unary("/x/y", b"", limit=5)


def test_empty_frames_without_end_do_not_fill_the_memory() -> None:
    def peer(stream: socket.socket) -> None:
        stream.sendall(SETTINGS)
        time.sleep(0.2)
        stream.sendall(_respond(GRPC))
        while True:
            stream.sendall(_frame(0, 0, 1, b"") * 1_000)

    with _against(peer) as channel:
        call = channel.call("/x/y")
        deadline = time.monotonic() + 60
        while channel.connection.failure is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(ConnectionLostError, match="more pieces of data than anyone can read"):
            call.receive(1)


def test_no_bytes_at_all_make_a_connection_hang_or_leak_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    escaped: list[object] = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)
    chance = random.Random(7)

    for _ in range(60):
        kinds = [chance.randrange(11) for _ in range(6)]
        noise = SETTINGS + b"".join(
            _frame(kind, chance.randrange(256), chance.choice((0, 1, 1, 2, 3)), chance.randbytes(chance.randrange(40)))
            for kind in kinds
        )

        def peer(stream: socket.socket, noise: bytes = noise) -> None:
            stream.sendall(noise)
            stream.shutdown(socket.SHUT_WR)

        with _against(peer) as channel, pytest.raises((RpcError, ConnectionLostError)):
            channel.unary("/x/y", b"", limit=5)

    assert escaped == []


def test_closing_while_calls_wait_ends_them_and_all_threads() -> None:
    ended = threading.Event()

    def wait(_call: ServerCall) -> None:
        ended.wait(10)

    before = threading.active_count()
    failures: list[Exception] = []
    with _served(wait=wait) as channel:

        def call() -> None:
            try:
                channel.unary("/test/wait", b"", limit=None)
            except ConnectionLostError as error:
                failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(10)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        started = time.monotonic()
        channel.connection.close()
        for thread in threads:
            thread.join(5)
        assert time.monotonic() - started < 3
        ended.set()

    assert len(failures) == 10
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_peer_that_takes_nothing_does_not_hold_a_sender_for_ever() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, client=True, name="the builder")
    theirs.sendall(SETTINGS)
    try:
        call = GrpcChannel(connection).call("/x/y")
        with pytest.raises(RpcError, match=r"has taken no data for 0\.3 seconds"):
            call.send(bytes(1 << 20), 0.3)
        started = time.monotonic()
    finally:
        connection.close()
        theirs.close()
    assert time.monotonic() - started < 5
