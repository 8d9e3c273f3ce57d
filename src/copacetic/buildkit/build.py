# SPDX-License-Identifier: Apache-2.0
"""
One job on a builder: its session, the call that holds it, its progress, and the way out, whatever happens.

Every wait looks around once a second: a session that broke, a builder that fell silent, a limit that passed, each ends
the job with a reason. Leaving a job early cancels it, and the builder kills what it runs.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Any, Self

from copacetic.buildkit import schema
from copacetic.buildkit.failure import explain
from copacetic.buildkit.grpc import Call, Code, GrpcChannel, Handler, RpcError
from copacetic.buildkit.http2 import ConnectionLostError
from copacetic.buildkit.inputs import InputServer
from copacetic.buildkit.progress import BuildLog
from copacetic.buildkit.session import BuildSession, parse
from copacetic.errors import CopaError, SolverError
from copacetic.llb.definition import Definition
from copacetic.llb.marshal import message_of
from copacetic.llb.solver import Events, Inputs

__all__ = ["Build", "Exporter"]

_CONTROL = "/moby.buildkit.v1.Control/"
_SILENCE = 60.0
"""Seconds without a byte from the builder, which asks the session for its health every few seconds."""
_LAST_WORDS = 3.0
_LATE_LOG = 1.0
_LOOK = 1.0
_logger = logging.getLogger(__name__)

Exporter = tuple[str, Mapping[str, str]]
"""Type and attributes."""


class Build:
    """A context manager; `limit` is in seconds, for all of it."""

    def __init__(
        self,
        channel: GrpcChannel,
        inputs: Inputs,
        events: Events,
        *,
        limit: float,
        methods: Mapping[str, Handler] | None = None,
    ) -> None:
        self.reference = secrets.token_hex(16)
        self.channel = channel
        self.name = channel.connection.name
        self._served = InputServer(inputs)
        self._session = BuildSession(channel, {**self._served.methods, **(methods or {})})
        self._log = BuildLog(_harmless(events))
        self._deadline = time.monotonic() + limit
        self._limit = limit
        self._solve: Call | None = None
        self._status: Call | None = None
        self._follower: Thread | None = None

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._solve is not None:
                self._solve.cancel()
            if self._follower is not None:
                # The builder ends the status when it has stopped what it ran; that something is done may come last.
                self._follower.join(_LATE_LOG if kind is None else _LAST_WORDS)
        finally:
            if self._status is not None:
                self._status.cancel()
            self._session.__exit__(kind, error, trace)
            self._served.close()

    def start(self, definition: Definition | None, exporters: Sequence[Exporter] = ()) -> None:
        """Begin the job; without a definition it waits for what comes through the gateway."""
        request = schema.control().SolveRequest(ref=self.reference, session=self._session.id, internal=True)
        request.cache.SetInParent()
        if definition is not None:
            request.definition.CopyFrom(message_of(definition))
        for position, (kind, attributes) in enumerate(exporters):
            request.exporters.add(type=kind, attrs=attributes)
            if position == 0:  # for builders before 0.13
                request.exporter_deprecated = kind
                request.exporter_attrs_deprecated.update(attributes)
        self._solve = self.channel.call(f"{_CONTROL}Solve")
        self._solve.send(request.SerializeToString(), _SILENCE)
        self._solve.end()
        self._status = self.channel.call(f"{_CONTROL}Status")
        self._status.send(schema.control().StatusRequest(ref=self.reference).SerializeToString(), _SILENCE)
        self._status.end()
        self._follower = Thread(target=self._follow, name="copa-buildkit-status", daemon=True)
        self._follower.start()

    def finish(self) -> Mapping[str, bytes]:
        """Wait for the end of the job, and return what its exporters say. Raises `SolverError`."""
        assert self._solve is not None
        data = self.wait(self._solve)
        return dict(parse(schema.control().SolveResponse, data).exporter_response)

    def call(self, method: str, request: Any) -> bytes:
        """Call a method of the gateway, as part of this job. Raises `SolverError` with the job's own failure first."""
        metadata = [("buildkit-controlapi-buildid", self.reference)]
        with self.channel.call(f"/moby.buildkit.v1.frontend.LLBBridge/{method}", metadata) as call:
            call.send(request.SerializeToString(), _SILENCE)
            call.end()
            return self.wait(call)

    def wait(self, call: Call) -> bytes:
        """Wait for a call's one answer. Raises `SolverError`, the cause of a failure being found out."""
        while True:
            try:
                answer = call.receive(_LOOK)
            except TimeoutError:
                self._look_around()
                continue
            except RpcError as error:
                raise self._explain(error, call) from error
            except ConnectionLostError as error:
                raise SolverError(
                    f"{error}{self._meanwhile()}", hint="see the builder's log: was it stopped?"
                ) from error
            if answer is None:
                raise SolverError(f"{self.name} answered with nothing")
            return answer

    def _look_around(self) -> None:
        now = time.monotonic()
        if self._session.failure is not None:
            raise SolverError(f"{self._session.failure}{self._meanwhile()}")
        if now - self.channel.connection.last_heard > _SILENCE:
            raise SolverError(f"{self.name} has said nothing for {_SILENCE:g} seconds{self._meanwhile()}")
        if now > self._deadline:
            raise SolverError(f"{self.name} did not finish within {self._limit:g} seconds{self._meanwhile()}")

    def _meanwhile(self) -> str:
        running = self._log.running()
        return f", while this was running: {'; '.join(running)[:300]}" if running else ""

    def _explain(self, error: RpcError, call: Call) -> CopaError:
        """Find the cause: a call of the gateway fails for no reason of its own when the job has ended."""
        if call is self._solve:
            if self._follower is not None:
                self._follower.join(_LAST_WORDS)
        elif _job_is_gone(error):
            error = self._end_of_job() or error
        else:
            self._wait_for_log(error)
        return explain(error, self._log, self.name)

    def _end_of_job(self) -> RpcError | None:
        assert self._solve is not None
        try:
            self._solve.receive(_LAST_WORDS)
        except RpcError as error:
            return error
        except (TimeoutError, ConnectionLostError):
            pass
        return None

    def _wait_for_log(self, error: RpcError) -> None:
        """The last lines come beside the failure, a moment later perhaps."""
        deadline = time.monotonic() + _LATE_LOG
        while b"errdefs.Vertex" in error.details and not self._log.failed() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _follow(self) -> None:
        assert self._status is not None
        with suppress(RpcError, ConnectionLostError):
            while (data := self._status.receive()) is not None:
                self._log.add(parse(schema.control().StatusResponse, data))


def _job_is_gone(error: RpcError) -> bool:
    return error.code == Code.NOT_FOUND and "no such job" in error.message


def _harmless(events: Events) -> Events:
    """A listener that fails doesn't end the solve, nor the thread that feeds it."""

    def tell(event: Any) -> None:
        try:
            events(event)
        except Exception:
            _logger.exception("a listener failed")

    return tell
