# SPDX-License-Identifier: Apache-2.0
"""Streams to daemons: every byte arrives, waiting ends, and nothing stays behind."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.connect.dial.dockerexec import ExecStream
from copacetic.connect.dial.greeting import GreetedStream
from copacetic.connect.dial.process import ProcessStream
from copacetic.connect.dial.tls import TlsStream, make_context
from copacetic.connect.stream import SocketStream, Stream
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import DaemonUnreachableError, UsageError
from support.server.certificate import Certificate, make_certificate

AMOUNT = 3_000_000


class Scripted:
    """A peer that says prepared pieces, and then nothing more, or ends."""

    def __init__(self, *pieces: bytes, silent: bool = False) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._silent = silent
        self.sent = b""

    def recv(self, size: int, /) -> bytes:
        if not self._pieces:
            assert not self._silent, "this would wait forever"
            return b""
        data, rest = self._pieces[0][:size], self._pieces[0][size:]
        self._pieces[:1] = [rest] if rest else []
        return data

    def sendall(self, data: bytes, /) -> None:
        self.sent += data

    def close(self) -> None: ...

    def wait(self, seconds: float, /) -> bool:
        return bool(self._pieces) or not self._silent

    def last_words(self) -> str:
        return ""


def _exchange(stream: Stream) -> None:
    """Send and receive at the same time, and expect an echo."""
    data = random.Random(1).randbytes(AMOUNT)

    def send() -> None:
        for start in range(0, AMOUNT, 77_777):
            stream.sendall(data[start : start + 77_777])

    sender = threading.Thread(target=send)
    sender.start()
    received = hashlib.sha256()
    count = 0
    while count < AMOUNT:
        part = stream.recv(65_536)
        assert part
        received.update(part)
        count += len(part)
    sender.join()
    assert received.digest() == hashlib.sha256(data).digest()


def _ends(wait: Callable[[], bytes], end: Callable[[], None]) -> bytes:
    """Return what a waiting `recv` gives when something else ends it."""
    results: list[bytes] = []
    reader = threading.Thread(target=lambda: results.append(wait()))
    reader.start()
    time.sleep(0.1)
    end()
    reader.join(5)
    assert not reader.is_alive()
    return results[0]


# Programs


def test_a_program_s_input_and_output_carry_every_byte_both_ways() -> None:
    stream = ProcessStream(["cat"], name="cat", missing="")

    try:
        _exchange(stream)
    finally:
        stream.close()


def test_closing_ends_a_program_that_ignores_signals_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; sleep 1000) & echo $! $$ > {pids}; sleep 1000"
    stream = ProcessStream(["sh", "-c", script], name="sh", missing="")
    while not pids.exists() or not pids.read_text().endswith("\n"):
        time.sleep(0.01)

    stream.close()
    stream.close()

    for pid in pids.read_text().split():
        deadline = time.monotonic() + 5
        while _is_running(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _is_running(int(pid))


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Whoever is orphaned is for init to reap; ours must not even be zombies.
    return state != "Z" or int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()


def test_closing_from_another_thread_ends_a_waiting_read() -> None:
    stream = ProcessStream(["sleep", "1000"], name="sleep", missing="")

    assert _ends(lambda: stream.recv(10), stream.close) == b""


def test_what_a_program_says_last_is_kept_for_the_message() -> None:
    script = "seq 100000 >&2; printf '\\nPermission denied (publickey).\\n\\n' >&2; exit 255"
    stream = ProcessStream(["sh", "-c", script], name="sh", missing="")

    try:
        assert stream.wait(5)
        assert stream.recv(10) == b""
        assert stream.last_words() == "sh ended with status 255: Permission denied (publickey)."
    finally:
        stream.close()


def test_writing_to_a_program_that_has_ended_says_why_it_ended() -> None:
    stream = ProcessStream(["sh", "-c", "echo no such pod >&2; exit 1"], name="kube-pod://x", missing="")
    assert stream.recv(10) == b""

    try:
        with pytest.raises(DaemonUnreachableError, match="kube-pod://x: sh ended with status 1: no such pod"):
            stream.sendall(b"x" * 1_000_000)
    finally:
        stream.close()


def test_a_program_gets_no_ctrl_c_of_ours(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from copacetic.connect.dial.process import ProcessStream
stream = ProcessStream(["sh", "-c", "trap 'echo hit' INT; echo ready; read line; echo $line"], name="sh", missing="")
assert stream.recv(100) == b"ready\\n"
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    stream.sendall(b"alive\\n")
    print(stream.recv(100))
stream.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    os.killpg(process.pid, signal.SIGINT)

    assert process.communicate(timeout=20)[0] == "b'alive\\n'\n"


def test_a_missing_program_is_named_with_what_to_do() -> None:
    with pytest.raises(DaemonUnreachableError, match="x://: no-such-program is not installed") as caught:
        ProcessStream(["no-such-program"], name="x://", missing="install it")

    assert caught.value.hint == "install it"


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextmanager
def _tls_server(context: ssl.SSLContext, serve: Callable[[ssl.SSLSocket], None]) -> Iterator[SocketStream]:
    """Yield a plain connection to a server that speaks TLS, for one client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        serve(secure)
                except OSError:
                    pass

        server = threading.Thread(target=run)
        server.start()
        stream = SocketStream(socket.create_connection(listener.getsockname()))
        try:
            yield stream
        finally:
            stream.close()
            server.join(10)


def _echo(secure: ssl.SSLSocket) -> None:
    while data := secure.recv(10_000):
        secure.sendall(data)


def _client(inner: Stream, certificate: Certificate, seconds: float = 5.0) -> TlsStream:
    context = make_context(TlsFiles(ca=certificate.authority), protocol="h2")
    return TlsStream(inner, context, server_name="localhost", seconds=seconds, name="tcp://localhost:1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_carries_every_byte_both_ways_at_once(certificate: Certificate, version: ssl.TLSVersion) -> None:
    context = certificate.server_context()
    context.maximum_version = version
    with _tls_server(context, _echo) as plain:
        _exchange(_client(plain, certificate))


def test_tls_agrees_on_the_protocol_that_is_spoken_inside(certificate: Certificate) -> None:
    context = certificate.server_context()
    context.set_alpn_protocols(["http/1.1", "h2"])
    with _tls_server(context, _echo) as plain:
        assert _client(plain, certificate).protocol == "h2"


def test_waiting_on_tls_is_not_deceived_by_what_tls_says_for_itself(certificate: Certificate) -> None:
    # TLS 1.3 sends tickets right after the handshake: bytes for the socket, nothing for us.
    release = threading.Event()

    def serve(secure: ssl.SSLSocket) -> None:
        release.wait(10)
        secure.sendall(b"now")

    with _tls_server(certificate.server_context(), serve) as plain:
        stream = _client(plain, certificate)

        assert not stream.wait(0.3)
        release.set()
        assert stream.wait(5)
        assert stream.recv(2) + stream.recv(10) == b"now"


def test_the_end_of_tls_is_the_end(certificate: Certificate) -> None:
    with _tls_server(certificate.server_context(), lambda secure: secure.sendall(b"bye")) as plain:
        stream = _client(plain, certificate)

        assert stream.recv(10) == b"bye"
        assert stream.recv(10) == b""


def test_closing_tls_from_another_thread_ends_a_waiting_read(certificate: Certificate) -> None:
    with _tls_server(certificate.server_context(), _echo) as plain:
        stream = _client(plain, certificate)

        assert _ends(lambda: stream.recv(10), stream.close) == b""


def test_a_peer_that_never_shakes_hands_is_left_with_a_reason(certificate: Certificate) -> None:
    here, there = socket.socketpair()
    with here, there, pytest.raises(DaemonUnreachableError, match="no TLS handshake within 0.2 s"):
        _client(SocketStream(here), certificate, seconds=0.2)


def test_files_for_tls_of_no_use_are_told_apart(certificate: Certificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other")
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", str(certificate.key), "-aes128", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)

    def refuse(files: TlsFiles) -> str:
        with pytest.raises(UsageError) as caught:
            make_context(files, protocol="h2")
        return f"{caught.value}; {caught.value.hint}"

    cert = certificate.file
    assert f"the key {locked} is encrypted" in refuse(TlsFiles(cert=cert, key=locked))
    assert "key values mismatch; take the key of that" in refuse(TlsFiles(cert=cert, key=other.key))
    assert "doesn't hold certificates of authorities" in refuse(TlsFiles(ca=certificate.key))
    assert f"can't read {tmp_path}/none: No such file" in refuse(TlsFiles(ca=tmp_path / "none"))
    assert "comes without a key" in refuse(TlsFiles(cert=cert))


# The first words


SETTINGS = bytes((0, 0, 6, 4, 0, 0, 0, 0, 0)) + bytes(6)


@given(st.lists(st.integers(1, 5), max_size=6))
def test_a_builder_s_first_bytes_come_through_however_they_are_cut(cuts: list[int]) -> None:
    text = SETTINGS + b"and more"
    pieces = []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    stream = GreetedStream(Scripted(*pieces, text), seconds=1, name="x")

    data = b""
    while part := stream.recv(4):
        data += part
    assert data == SETTINGS + b"and more"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server answers there, not a builder"),
        (b"\x15\x03\x01\x00\x02\x02\x46xxxxx", "it uses TLS, and the connection was plain"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "an ssh server answers there, not a builder"),
        (b"Welcome to host.example!\n", "answers there: Welcome to host.example!"),
        (bytes(range(20)), r"answers there: b'\x00\x01\x02"),
        (SETTINGS[:5], "answers there: b'"),
        (b"", "it closed the connection without a word"),
    ],
)
def test_whoever_isn_t_a_builder_is_told_from_one_by_its_first_words(said: bytes, message: str) -> None:
    stream = GreetedStream(Scripted(said), seconds=1, name="tcp://host:1")

    with pytest.raises(DaemonUnreachableError) as caught:
        stream.recv(100)

    assert str(caught.value).startswith("tcp://host:1: ")
    assert message in str(caught.value)


def test_whoever_says_nothing_is_left_with_a_reason() -> None:
    here, there = socket.socketpair()
    with there:
        stream = GreetedStream(SocketStream(here), seconds=0.2, name="tcp://host:1", hint="look there")

        with pytest.raises(DaemonUnreachableError, match="tcp://host:1: no answer within"):
            stream.recv(100)
        stream.close()


def test_a_shell_that_talks_for_ever_is_not_listened_to_for_ever() -> None:
    endless = Scripted(b"y" * 1_000_000)

    with pytest.raises(DaemonUnreachableError) as caught:
        GreetedStream(endless, seconds=1, name="ssh://host").recv(100)

    assert len(str(caught.value)) < 2_100


# The engine's frames


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12),
    st.lists(st.integers(1, 11), max_size=40),
)
def test_output_is_taken_out_of_the_engine_s_frames_however_they_are_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    text = b"".join(bytes((kind, 0, 0, 0)) + len(data).to_bytes(4, "big") + data for kind, data in frames)
    pieces = []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    stream = ExecStream(Scripted(*pieces, text))

    data = b""
    while stream.wait(1) and (part := stream.recv(7)):
        data += part

    assert data == b"".join(data for kind, data in frames if kind == 1)
    errors = b"".join(data for kind, data in frames if kind == 2).decode("utf-8", "replace").splitlines()
    assert stream.last_words() == next((line.strip() for line in reversed(errors) if line.strip()), "")


def test_errors_alone_don_t_end_the_wait_for_output() -> None:
    stream = ExecStream(Scripted(b"\2\0\0\0\0\0\0\3bad", silent=True))

    assert not stream.wait(0.1)
    assert stream.last_words() == "bad"


@pytest.mark.parametrize("header", [b"\3\0\0\0\0\0\0\1x", b"\1\0\1\0\0\0\0\1x", b"HTTP/1.1 200"])
def test_frames_of_no_kind_are_refused(header: bytes) -> None:
    with pytest.raises(DaemonUnreachableError, match="isn't the output of a program"):
        ExecStream(Scripted(header)).recv(10)
