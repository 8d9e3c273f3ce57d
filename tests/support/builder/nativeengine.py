# SPDX-License-Identifier: Apache-2.0
"""
A stand-in for Docker engines of other versions than Debian has: it answers `/version`, and leads to a real buildkitd.

    with NativeEngine(daemon.connect, api="1.53", native=True, upgrade=False) as engine:
        ...  # engine.address, engine.asked
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Self


class NativeEngine:
    """`native` takes HTTP/2 without ado, `upgrade` takes `POST /grpc`; `asked` is what came, in order."""

    def __init__(self, connect: Callable[[], socket.socket], *, api: str, native: bool, upgrade: bool) -> None:
        self.asked: list[str] = []
        self._connect = connect
        self._api = api
        self._native = native
        self._upgrade = upgrade
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._threads = [threading.Thread(target=self._run)]

    @property
    def address(self) -> str:
        return f"docker://tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            first = connection.recv(1_000)
            self.asked.append(first.partition(b" HTTP")[0].decode())
            if first.startswith(b"PRI ") and self._native:
                self._join(connection, first)
            elif first.startswith(b"POST /grpc") and self._upgrade:
                connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                self._join(connection, b"")
            elif first.startswith(b"GET /version"):
                body = f'{{"ApiVersion": "{self._api}", "Version": "29.2.0", "Components": [{{"Name": "Engine"}}]}}'
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            else:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def _join(self, connection: socket.socket, first: bytes) -> None:
        with self._connect() as builder:
            builder.sendall(first)
            back = threading.Thread(target=_pump, args=(builder, connection))
            back.start()
            _pump(connection, builder)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
