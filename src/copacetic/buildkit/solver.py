# SPDX-License-Identifier: Apache-2.0
"""`BuildkitSolver`: the `Solver` seam over one connection to a builder, which many threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import Struct

from copacetic.buildkit import schema
from copacetic.buildkit.build import Build
from copacetic.buildkit.export import EXPORTER, METHOD, LayerReceiver
from copacetic.buildkit.filesystem import BuilderFilesystem
from copacetic.buildkit.gateway import Gateway
from copacetic.buildkit.grpc import Code, GrpcChannel, RpcError
from copacetic.buildkit.http2 import Connection, ConnectionLostError
from copacetic.buildkit.session import parse
from copacetic.connect.stream import Duplex
from copacetic.errors import (
    BuilderUnreachableError,
    DaemonUnreachableError,
    ImageError,
    SolverError,
    UnsupportedBuilderError,
)
from copacetic.llb.definition import Definition
from copacetic.llb.graph import SourceOp
from copacetic.llb.schema import pb
from copacetic.llb.solver import Capabilities, Events, ExportedLayer, Inputs
from copacetic.oci import Platform
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.printable import printable

__all__ = ["BuildkitSolver"]

_CONTROL = "/moby.buildkit.v1.Control/"
_GREETING = 15.0
_ANSWER = 30.0
_WITHOUT_MERGE = (
    "turn on the containerd image store in Docker (`features` in daemon.json), or use BuildKit itself, "
    "as with `docker buildx create --driver docker-container`"
)


class _Builder(Struct, frozen=True, kw_only=True):
    """What a builder has said of itself."""

    public: Capabilities
    refused: dict[str, str]
    """LLB capabilities that are known and turned off, with the reason."""
    known: frozenset[str]


class BuildkitResult(Struct, frozen=True, kw_only=True):
    """A solved filesystem on the builder."""

    filesystem: ImageFilesystem


class BuildkitSolver:
    """
    Solves graphs with a builder.

    `connect` makes a connection, once now and again when the last one broke; `name` is the builder's for messages.
    `limit` is how many seconds one solve may take, `export_limit` how many bytes one export may have.
    """

    def __init__(
        self, connect: Callable[[], Duplex], name: str, *, limit: float = 3_600.0, export_limit: int = 64 << 30
    ) -> None:
        self._connect = connect
        self._name = name
        self._limit = limit
        self._export_limit = export_limit
        self._lock = Lock()
        self._channel: GrpcChannel | None = None
        self._builder: _Builder | None = None
        self._closed = False

    def capabilities(self) -> Capabilities:
        """Ask once, remember the answer. Raises `BuilderUnreachableError` when nobody answers."""
        return self._ask().public

    @contextmanager
    def solve(self, definition: Definition, inputs: Inputs, events: Events) -> Iterator[BuildkitResult]:
        """Solve a graph, to read files of the result. Raises `SolverError`."""
        definition = self._prepare(definition)
        with Build(self._open(), inputs, events, limit=self._limit) as build:
            build.start(None)
            gateway = Gateway(build)
            reference = gateway.solve(definition)
            yield BuildkitResult(filesystem=BuilderFilesystem(reference))
            gateway.leave()

    def export(
        self, definition: Definition, inputs: Inputs, events: Events, *, folder: Path
    ) -> tuple[ExportedLayer, ...]:
        """Solve a graph and write its layers into a private empty folder. Raises `SolverError`, `StorageError`."""
        definition = self._prepare(definition)
        receiver = LayerReceiver(folder, limit=self._export_limit)
        methods = {METHOD: receiver.handle}
        with Build(self._open(), inputs, events, limit=self._limit, methods=methods) as build:
            build.start(definition, [EXPORTER])
            try:
                build.finish()
            except SolverError:
                if receiver.failure is not None:
                    raise receiver.failure from None
                raise
        try:
            return receiver.layers()
        except ImageError as error:
            raise SolverError(f"{self._name} has exported a broken image: {error}") from error

    def close(self) -> None:
        """End the connection, and with it whatever still runs."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.connection.close()

    def _open(self) -> GrpcChannel:
        """Return the connection, a new one when there is none that works."""
        with self._lock:
            if self._closed:
                raise SolverError(f"{self._name} was closed")
            if self._channel is None or self._channel.connection.failure is not None:
                try:
                    stream = self._connect()
                except DaemonUnreachableError as error:
                    raise BuilderUnreachableError(str(error), hint=error.hint) from error
                except OSError as error:
                    reason = (error.strerror or str(error)).lower()
                    raise BuilderUnreachableError(f"{self._name}: {reason}") from error
                connection = Connection(stream, client=True, name=self._name)
                try:
                    connection.wait_greeting(_GREETING)
                except ConnectionLostError as error:
                    connection.close()
                    raise BuilderUnreachableError(str(error), hint=error.hint) from error
                except BaseException:
                    connection.close()
                    raise
                self._channel = GrpcChannel(connection)
            return self._channel

    def _prepare(self, definition: Definition) -> Definition:
        """Refuse what the builder can't do, and keep this client's directories apart from others'."""
        self._require(definition)
        if any(isinstance(one, SourceOp) and one.identifier.startswith("local://") for one in definition.vertices):
            import secrets

            return definition.state.marshal(definition.platform, unique=secrets.token_hex(16))
        return definition

    def _require(self, definition: Definition) -> None:
        builder = self._ask()
        needed = {cap for data in definition.metadata.values() for cap in pb().OpMetadata.FromString(data).caps}
        if builder.known and (missing := sorted(needed - builder.known)):
            raise UnsupportedBuilderError(
                f"{self._name} does not know {', '.join(missing)}", hint="use a newer builder: BuildKit 0.13 or later"
            )
        for cap in sorted(needed & builder.refused.keys()):
            hint = _WITHOUT_MERGE if cap in {"mergeop", "diffop"} else None
            raise UnsupportedBuilderError(f"{self._name} can't do {cap}: {builder.refused[cap]}", hint=hint)

    def _ask(self) -> _Builder:
        if self._builder is None:
            channel = self._open()
            try:
                self._builder = self._interview(channel)
            except ConnectionLostError as error:
                raise BuilderUnreachableError(str(error), hint=error.hint) from error
            except RpcError as error:
                kind = UnsupportedBuilderError if error.code == Code.UNIMPLEMENTED else BuilderUnreachableError
                raise kind(f"{self._name}: {error}", hint="is that BuildKit? see `copa builders`") from error
        return self._builder

    def _interview(self, channel: GrpcChannel) -> _Builder:
        messages = schema.control()
        answer = channel.unary(f"{_CONTROL}ListWorkers", b"", limit=_ANSWER)
        workers = parse(messages.ListWorkersResponse, answer).record
        with Build(channel, Inputs(), lambda _event: None, limit=_ANSWER) as build:
            build.start(None)
            gateway = Gateway(build)
            pong = gateway.ping()
            gateway.leave()
        refused = {cap.id.decode("utf-8", "replace"): _reason(cap) for cap in pong.llb_caps if not cap.enabled}
        known = frozenset(cap.id.decode("utf-8", "replace") for cap in pong.llb_caps)
        lacking = [cap for cap in ("mergeop", "diffop") if cap in refused or cap not in known]
        labels = {key: _text(value) for worker in workers[:1] for key, value in worker.labels.items()}
        reason = ""
        if lacking:
            reason = f"{', '.join(refused.get(cap) or 'unknown here' for cap in lacking[:1])}; {_WITHOUT_MERGE}"
        public = Capabilities(
            name=self._name,
            version=self._version(channel, workers),
            platforms=tuple(_platform(one) for worker in workers for one in worker.platforms),
            merge_diff=not lacking,
            reason=reason,
            labels=labels,
        )
        return _Builder(public=public, refused=refused, known=known)

    def _version(self, channel: GrpcChannel, workers: Any) -> str:
        """Return the version, which distributions' packages don't know of themselves."""
        try:
            answer = channel.unary(f"{_CONTROL}Info", b"", limit=_ANSWER)
        except RpcError:
            return next((_text(worker.version.version) for worker in workers), "")
        return _text(parse(schema.control().InfoResponse, answer).version.version)


def _reason(cap: Any) -> str:
    return _text(cap.disabled_message) or _text(cap.disabled_reason) or "turned off"


def _text(data: bytes) -> str:
    """Text of a builder, fit for one line."""
    return printable(data.decode("utf-8", "replace")[:300])


def _platform(message: Any) -> Platform:
    return Platform(os=message.os, architecture=message.architecture, variant=message.variant)
