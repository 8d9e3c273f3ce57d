# SPDX-License-Identifier: Apache-2.0
"""
The helper process as this process sees it: started in a mode, given jobs, and gone when it is closed.

It notices when this process ends, however it ends, and takes everything with it that it has started.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from copacetic.errors import SolverError
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.modes import Mode, ModeRefusedError
from copacetic.worker.platforms import find_emulators

__all__ = ["Agent", "AgentJob", "JobRefusedError"]

_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from copacetic.worker.inside.server import main; main()"
_END = 10.0
"""Seconds after which a helper that was told to end is killed."""


class JobRefusedError(Exception):
    """The helper could not do a job; `kind` as in `inside.refusal`."""

    def __init__(self, kind: str, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.number = number


class AgentJob:
    """One job that runs. Leaving its context ends it, done or not."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.channel.close()

    def ask(self, message: Message) -> None:
        """Say something more. Raises `SolverError` when the helper is gone."""
        try:
            self.channel.send(message)
        except OSError as error:
            raise SolverError(f"the worker's helper process is gone: {error.strerror}") from error

    def receive(self) -> Message:
        """Return what it says next. Raises `JobRefusedError`, or `SolverError` when the helper is gone."""
        try:
            received = self.channel.receive()
        except OSError as error:
            raise SolverError(f"the worker's helper process is gone: {error.strerror}") from error
        if received is None:
            raise SolverError("the worker's helper process has ended before its work was done")
        message = received[0]
        if "refused" in message:
            raise JobRefusedError(message["refused"], message["reason"], message.get("errno", 0))
        if "broken" in message:
            raise SolverError(f"the worker's helper process failed: {message['broken']}")
        return message

    def result(self) -> Message:
        """Wait for the end, and return what came of it. Raises as `receive` does."""
        done: Message = self.receive()["done"]
        return done


class Agent:
    """A helper process that is ready. Thread-safe; every job has a process of its own."""

    def __init__(self, mode: Mode, process: subprocess.Popen[bytes], channel: Channel, facts: Message) -> None:
        self.mode = mode
        self.facts = facts
        self._process = process
        self._channel = channel
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def start(cls, mode: Mode, folder: Path) -> Agent:
        """
        Start a helper; `folder` is a private one on the disk of the layers. Raises `ModeRefusedError` when this
        machine doesn't allow the mode.
        """
        ours, theirs = socket.socketpair()
        config = json.dumps({"mode": mode.name, "folder": str(folder), "emulators": find_emulators()})
        home = str(Path(__file__).resolve().parents[2])
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, when the helper has it
        command = [sys.executable, "-IS", "-X", "utf8", "-c", _PROGRAM, home, str(theirs.fileno()), config]
        try:
            process = subprocess.Popen(  # noqa: S603 - this very program
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, cwd="/",
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            said.close()
            raise SolverError(f"can't start the worker's helper process: {error.strerror}") from error
        finally:
            theirs.close()
        channel = Channel(ours)
        try:
            facts = _greet(channel, mode, process, said)
        except BaseException:
            channel.close()
            process.kill()
            process.wait()
            raise
        finally:
            said.close()
        return cls(mode, process, channel, facts)

    @contextlib.contextmanager
    def job(self, name: str, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Iterator[AgentJob]:
        """Start a job; `fds` are its files. Raises `SolverError` when the helper is gone."""
        ours, theirs = socket.socketpair()
        with AgentJob(Channel(ours)) as job:
            try:
                with theirs, self._lock:
                    if self._closed:
                        raise SolverError("the worker was closed")
                    self._channel.send({"job": name}, [theirs.fileno()])
                job.channel.send(request, fds)
            except OSError as error:
                raise SolverError(f"the worker's helper process is gone: {error.strerror}") from error
            yield job

    def do(self, name: str, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Message:
        """Do a job and return what came of it. Raises `JobRefusedError` or `SolverError`."""
        with self.job(name, request, fds) as job:
            return job.result()

    def close(self) -> None:
        """End the helper and everything that it has started; returns when it is gone."""
        with self._lock:
            self._closed = True
            self._channel.close()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _greet(channel: Channel, mode: Mode, process: subprocess.Popen[bytes], said: IO[bytes]) -> Message:
    while True:
        try:
            received = channel.receive()
        except OSError:
            received = None
        if received is None:
            process.wait()
            said.seek(0)
            lines = said.read(65536).decode("utf-8", "replace").strip().splitlines()
            raise ModeRefusedError(mode, "start", 0, lines[-1] if lines else "its process has ended at once")
        message = received[0]
        if "map" in message:
            mode.map_ids(message["map"])
            channel.send({"mapped": True, "groups": mode.has_groups})
        elif "failed" in message:
            raise ModeRefusedError(mode, message["failed"], message["errno"], message["reason"])
        else:
            facts: Message = message["ready"]
            return facts
