# SPDX-License-Identifier: Apache-2.0
"""
A builder in this process that speaks real gRPC over a socket pair and answers as it is told: for what no honest one does.

    builder = FakeBuilder()
    builder.methods[f"{GATEWAY}Solve"] = ...
    solver = BuildkitSolver(builder.connect, "fake")
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Code, GrpcChannel, Handler, RpcError, Server, ServerCall
from copacetic.buildkit.http2 import Connection

CONTROL = "/moby.buildkit.v1.Control/"
GATEWAY = "/moby.buildkit.v1.frontend.LLBBridge/"
CAPS = [
    "source.image",
    "source.local",
    "source.local.unique",
    "source.ocilayout",
    "exec.meta.base",
    "exec.meta.network",
    "exec.mount.bind",
    "exec.mount.secret",
    "exec.validexitcode",
    "file.base",
    "mergeop",
    "diffop",
    "constraints",
    "platform",
    "meta.description",
]


class FakeBuilder:
    """Answers everything that a solver asks, with an empty result; change what you need to."""

    def __init__(self, *, caps: Sequence[str] = CAPS) -> None:
        self.caps = dict.fromkeys(caps, "")
        """With the reason why it is turned off, when it is."""
        self.listing: dict[bytes, list[Any]] = {}
        """What ReadDir answers."""
        self.on_solve: Callable[[GrpcChannel], None] | None = None
        """Called with the session, to ask the client for something."""
        self._sessions: dict[str, GrpcChannel] = {}
        self._returned: dict[str, bool] = {}
        self._changed = threading.Condition()
        self._connections: list[Connection] = []
        self.methods: dict[str, Handler] = {
            f"{CONTROL}ListWorkers": self._list_workers,
            f"{CONTROL}Session": self._session,
            f"{CONTROL}Solve": self._solve,
            f"{CONTROL}Status": lambda call: None,
            f"{GATEWAY}Ping": self._ping,
            f"{GATEWAY}Solve": self._gateway_solve,
            f"{GATEWAY}Return": self._return,
            f"{GATEWAY}ReadDir": self._read_dir,
        }

    def connect(self) -> socket.socket:
        """Return the client's side of a new connection."""
        ours, theirs = socket.socketpair()
        server = Server(self.methods)
        server.methods = self.methods
        self._connections.append(Connection(ours, client=False, name="the client", accept=server.serve))
        return theirs

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    @property
    def open_streams(self) -> int:
        return sum(connection.streams for connection in self._connections if connection.failure is None)

    def _list_workers(self, call: ServerCall) -> None:
        call.receive()
        response = schema.control().ListWorkersResponse()
        response.record.add().platforms.add(os="linux", architecture="amd64")
        call.send(response.SerializeToString())

    def _ping(self, call: ServerCall) -> None:
        call.receive()
        response = schema.gateway().PongResponse()
        for cap, reason in self.caps.items():
            response.llb_caps.add(id=cap.encode(), enabled=not reason, disabled_message=reason.encode())
        call.send(response.SerializeToString())

    def _session(self, call: ServerCall) -> None:
        connection = Connection(_Tunnel(call), client=True, name="the session")
        connection.wait_greeting(10)
        with self._changed:
            self._sessions[call.metadata("x-docker-expose-session-uuid")[0]] = GrpcChannel(connection)
            self._changed.notify_all()
        while connection.failure is None:
            time.sleep(0.02)
        connection.close()

    def _solve(self, call: ServerCall) -> None:
        request = schema.control().SolveRequest.FromString(call.receive() or b"")
        deadline = time.monotonic() + 10
        with self._changed:
            while request.session not in self._sessions:
                if call._stream.reset_code is not None:
                    return  # the client gave up before its session was seen
                assert time.monotonic() < deadline, "the solve's session never came"
                self._changed.wait(0.02)
        if self.on_solve is not None:
            self.on_solve(self._sessions[request.session])
        elif not request.HasField("definition"):
            while not self._returned.get(request.ref) and call._stream.reset_code is None:
                time.sleep(0.02)
        call.send(schema.control().SolveResponse().SerializeToString())

    def _gateway_solve(self, call: ServerCall) -> None:
        call.receive()
        response = schema.gateway().SolveResponse()
        response.result.ref.id = "result"
        call.send(response.SerializeToString())

    def _return(self, call: ServerCall) -> None:
        call.receive()
        self._returned[call.metadata("buildkit-controlapi-buildid")[0]] = True
        call.send(b"")

    def _read_dir(self, call: ServerCall) -> None:
        request = schema.gateway().ReadDirRequest.FromString(call.receive() or b"")
        call.send(schema.gateway().ReadDirResponse(entries=self.listing.get(request.path, [])).SerializeToString())


class _Tunnel:
    """The server's end of a session's byte messages."""

    def __init__(self, call: ServerCall) -> None:
        self._call = call
        self._rest = b""

    def recv(self, size: int, /) -> bytes:
        while not self._rest:
            try:
                data = self._call.receive()
            except RpcError:
                return b""
            if data is None:
                return b""
            self._rest = schema.control().BytesMessage.FromString(data).data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def sendall(self, data: bytes, /) -> None:
        self._call.send(schema.control().BytesMessage(data=data).SerializeToString())

    def close(self) -> None:
        """The call ends when its handler does."""


def refuse(code: int = Code.UNKNOWN, message: str = "refused", details: bytes = b"") -> Handler:
    """Return a handler that ends a call with a status."""

    def handle(call: ServerCall) -> None:
        call.receive()
        raise RpcError(code, message, details=details)

    return handle


def answer(data: bytes) -> Handler:
    """Return a handler that answers with these bytes."""

    def handle(call: ServerCall) -> None:
        call.receive()
        call.send(data)

    return handle


@contextmanager
def fake_builder(**options: Any) -> Iterator[FakeBuilder]:
    """Yield a builder and close its connections."""
    builder = FakeBuilder(**options)
    try:
        yield builder
    finally:
        builder.close()
