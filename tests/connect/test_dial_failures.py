# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a builder's address gets one line with the reason, in limited time."""

from __future__ import annotations

import http.server
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from copacetic.connect.address import parse_address
from copacetic.connect.route import find_routes
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import CopaError, DaemonUnreachableError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
NOBODY = 65_534


def _fail(address: str, settings: BuilderSettings | None = None, *, seconds: float = 1.0) -> DaemonUnreachableError:
    """Return the error that reaching the address ends in, as a client of HTTP/2 would meet it."""
    started = time.monotonic()
    with pytest.raises(DaemonUnreachableError) as caught:
        (route,) = find_routes(parse_address(address), settings or BuilderSettings(timeout=seconds))
        stream = route.connect()
        try:
            stream.sendall(PREFACE)
            stream.recv(1_000)
        finally:
            stream.close()
    assert time.monotonic() - started < seconds + 10
    assert str(caught.value).startswith(address)
    return caught.value


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, which everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="copa-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def _peer(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that does that with each connection."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        threads = []

        def handle(connection: socket.socket) -> None:
            with connection:
                try:
                    serve(connection)
                except OSError:
                    pass

        def run() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                connection.settimeout(5)
                threads.append(threading.Thread(target=handle, args=(connection,)))
                threads[-1].start()

        server = threading.Thread(target=run)
        server.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            server.join()
            for thread in threads:
                thread.join()


def _hang(connection: socket.socket) -> None:
    while connection.recv(1_000):
        pass


# Sockets


def test_a_socket_that_isn_t_there(folder: Path) -> None:
    error = _fail(f"unix://{folder}/missing.sock")

    assert str(error).endswith(f": there is no {folder}/missing.sock")


def test_a_socket_whose_server_has_ended(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "stale.sock"))

    error = _fail(f"unix://{folder}/stale.sock")

    assert "nobody listens on" in str(error)
    assert "its server has ended" in str(error)


def test_a_file_that_isn_t_a_socket(folder: Path) -> None:
    (folder / "file").touch()

    assert str(_fail(f"unix://{folder}/file")).endswith("/file is not a socket")


def test_a_socket_of_datagrams(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(folder / "log.sock"))

        assert "is not a socket that streams" in str(_fail(f"unix://{folder}/log.sock"))


def _as_nobody(address: str) -> tuple[str, str]:
    """Try to connect as a user without rights, and return the message and its hint."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try:
                find_routes(parse_address(address), BuilderSettings(timeout=1))[0].connect()
            except CopaError as error:
                os.write(writing, f"{error}\n{error.hint}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        message, _, hint = pipe.read().partition("\n")
    os.waitpid(child, 0)
    return message, hint


@contextmanager
def _listening(path: Path, *, mode: int, group: int) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        os.chown(path, 0, group)
        path.chmod(mode)
        yield f"unix://{path}"


def test_a_socket_for_a_group_names_the_group_to_join(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files to groups")
    with _listening(folder / "docker.sock", mode=0o660, group=4) as address:  # Debian's adm
        message, hint = _as_nobody(address)

    assert message == f"{address}: no permission for {folder}/docker.sock, which is for the group adm"
    assert hint == "join the group adm: `sudo usermod -aG adm $USER`, and log in again"


def test_a_socket_for_root_alone_names_root(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    with _listening(folder / "buildkitd.sock", mode=0o660, group=0) as address:
        message, hint = _as_nobody(address)

    assert message == f"{address}: no permission for {folder}/buildkitd.sock"
    assert hint.startswith("run as root, or let its server open the socket for a group of yours")


def test_a_socket_in_a_folder_that_is_closed(folder: Path) -> None:
    folder.chmod(0o700)
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    with _listening(folder / "docker.sock", mode=0o666, group=0) as address:
        message, hint = _as_nobody(address)

    assert message == f"{address}: no permission to reach {folder}/docker.sock"
    assert "directory" in hint


# Ports


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert "nobody listens there" in str(_fail(f"tcp://127.0.0.1:{port}"))


def test_a_host_that_nobody_knows() -> None:
    assert "the host builder.invalid is unknown" in str(_fail("tcp://builder.invalid:1234", seconds=20))


def test_a_peer_that_accepts_and_says_nothing() -> None:
    with _peer(_hang) as address:
        assert "no answer within 1 s" in str(_fail(address))


def test_a_peer_that_hangs_up_at_once() -> None:
    with _peer(lambda connection: None) as address:
        error = _fail(address)

    assert "if it uses TLS, give --cacert" in str(error.hint)


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


def test_a_web_server() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        error = _fail(f"tcp://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    # What it answers to HTTP/2 differs between servers; that it isn't a builder is always said.
    assert "isn't a builder" in str(error) or "not a builder" in str(error)


# Engines


def _answer(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    text = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def serve(connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received and (part := connection.recv(1_000)):
            received += part
        connection.sendall(text)

    return serve


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        (
            _answer("HTTP/1.1 404 Not Found", b"not here"),
            "no engine answers there: it answers to /version with HTTP",
        ),
        (_answer("HTTP/1.1 403 Forbidden", b'{"message": "go away"}'), "it answers to /version with go away"),
        (_answer("HTTP/1.1 200 OK", b"[" * 100_000), "no engine answers there"),
        (_answer("HTTP/1.1 200 OK", b'{"ApiVersion": "1.4x"}'), "no engine answers there"),
        (_answer("HTTP/1.1 200 OK", b"x" * 5_000_000), "the answer has more than 4194304 bytes"),
        (_answer("SSH-2.0-OpenSSH_9.2p1"), "it doesn't speak HTTP"),
        (lambda connection: None, "no engine answers there: the connection broke"),
        (_hang, "no engine answers there: no answer in time"),
    ],
)
def test_what_isn_t_an_engine_is_told_from_one(serve: Callable[[socket.socket], None], message: str) -> None:
    with _peer(serve) as address:
        error = _fail(f"docker://{address}")

    assert message in str(error)
    assert len(str(error)) < 1_000


def test_podman_s_socket_is_told_from_docker_s_with_what_to_do() -> None:
    version = b'{"ApiVersion": "1.41", "Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}'
    with _peer(_answer("HTTP/1.1 200 OK", version)) as address:
        error = _fail(f"docker://{address}")

    assert str(error).endswith("this is Podman 4.3.1, not Docker")
    assert "--addr podman-container://buildkitd" in str(error.hint)


def test_an_engine_without_buildkit_says_so() -> None:
    version = b'{"ApiVersion": "1.38", "Version": "18.06.0-ce", "Components": [{"Name": "Engine"}]}'

    def serve(connection: socket.socket) -> None:
        request = connection.recv(1_000)
        if b"/version" in request:
            _say(connection, "200 OK", version)
        else:
            _say(connection, "404 Not Found", b'{"message": "page not found"}')

    with _peer(serve) as address:
        error = _fail(f"docker://{address}")

    assert "Docker Engine 18.06.0-ce offers no BuildKit: page not found" in str(error)


def _say(connection: socket.socket, status: str, body: bytes) -> None:
    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


# Programs


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    for address, program in (
        ("ssh://host.example", "ssh"),
        ("podman-container://b", "podman"),
        ("nerdctl-container://b", "nerdctl"),
        ("kube-pod://b", "kubectl"),
    ):
        error = _fail(address)
        assert str(error) == f"{address}: {program} is not installed"
        assert str(error.hint).startswith(f"install {program}")


def _write_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            'echo "Error: no container with name \\"b\\" found" >&2; exit 125',
            "podman ended with status 125: Error: no c",
        ),
        ("echo 'starting up'; exit 1", "something that isn't a builder answers there: starting up"),
        ("exec sleep 1000", "no answer within 1 s"),
        ("kill -9 $$", "podman was killed"),
        ("exit 0", "podman ended with status 0"),
    ],
)
def test_a_program_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    _write_program(tmp_path / "bin", "podman", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    assert message in str(_fail("podman-container://b"))


def test_a_program_that_can_t_be_run_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _write_program(tmp_path / "bin", "kubectl", "")
    (tmp_path / "bin" / "kubectl").write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert "kubectl can't be started: Exec format error" in str(_fail("kube-pod://b"))
