# SPDX-License-Identifier: Apache-2.0
"""
`docker-container://NAME`: the engine runs `buildctl dial-stdio` in a container, and its standard streams are ours.

That is `docker exec -i`, by the API itself: the engine sends output and errors of the process in one stream, in
frames of a type, three zeros and a length.
"""

from __future__ import annotations

import re
import time

from copacetic.connect.dial.process import last_line
from copacetic.connect.engine import EngineAnswer, EngineClient
from copacetic.connect.stream import Stream
from copacetic.errors import DaemonUnreachableError

__all__ = ["ExecStream", "connect_exec"]

_ID = re.compile(r"[0-9A-Za-z]{8,128}")
_STDOUT, _STDERR = 1, 2
_HEADER = 8
_KEPT = 4_096
_READY_LIMIT = 30.0


def connect_exec(engine: EngineClient, container: str, *, start: bool, start_hint: str) -> Stream:
    """
    Connect to the buildkitd in a container, whose name must have gone through the grammar.

    A stopped one is started when `start` says so, else that is an error with `start_hint`. Raises
    `DaemonUnreachableError`.
    """
    answer = _create(engine, container, ("buildctl", "dial-stdio"))
    if answer.status == 409 and start:
        _start(engine, container)
        answer = _create(engine, container, ("buildctl", "dial-stdio"))
    if answer.status == 404:
        raise DaemonUnreachableError(f"{engine.name}: there is no container {container}", hint=start_hint)
    if answer.status == 409:
        raise DaemonUnreachableError(f"{engine.name}: {answer.message}", hint=start_hint)
    identity = _identity(engine, answer)
    options = {"Detach": False, "Tty": False}
    opened = engine.upgrade(f"/exec/{identity}/start", protocol="tcp", document=options)
    if isinstance(opened, EngineAnswer):
        raise DaemonUnreachableError(
            f"{engine.name}: buildctl can't be run in the container {container}: {opened.message}",
            hint="use a container of an image with BuildKit, such as moby/buildkit",
        )
    return ExecStream(opened)


def _create(engine: EngineClient, container: str, command: tuple[str, ...]) -> EngineAnswer:
    attached = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    return engine.post(f"/containers/{container}/exec", {**attached, "Cmd": command})


def _identity(engine: EngineClient, answer: EngineAnswer) -> str:
    identity = str(answer.document.get("Id", ""))
    if answer.status not in {200, 201} or not _ID.fullmatch(identity):
        raise DaemonUnreachableError(f"{engine.name}: the engine refuses to run a program: {answer.message}")
    return identity


def _start(engine: EngineClient, container: str) -> None:
    """Start a container, and wait for the buildkitd in it."""
    answer = engine.post(f"/containers/{container}/start")
    if answer.status not in {204, 304}:
        raise DaemonUnreachableError(f"{engine.name}: the container {container} doesn't start: {answer.message}")
    deadline = time.monotonic() + _READY_LIMIT
    while not _is_ready(engine, container, deadline):
        if time.monotonic() > deadline:
            message = f"the buildkitd in the container {container} isn't ready after {_READY_LIMIT:.0f} s"
            raise DaemonUnreachableError(f"{engine.name}: {message}", hint=f"see `docker logs {container}`")
        time.sleep(0.1)


def _is_ready(engine: EngineClient, container: str, deadline: float) -> bool:
    identity = _identity(engine, _create(engine, container, ("buildctl", "debug", "workers")))
    engine.post(f"/exec/{identity}/start", {"Detach": True, "Tty": False})
    while time.monotonic() < deadline:
        answer = engine.get(f"/exec/{identity}/json")
        if answer.document.get("Running") is not True:
            return answer.document.get("ExitCode") == 0
        time.sleep(0.05)
    return False


class ExecStream:
    """The output of a process, taken out of the engine's frames; its errors are kept for the message."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner
        self._rest = 0
        """Bytes of the current frame that are still to come."""
        self._header = b""
        self._is_output = False
        self._ready = b""
        self._said = bytearray()

    def recv(self, size: int, /) -> bytes:
        while not self._ready and self._read_some(size):
            pass
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def sendall(self, data: bytes, /) -> None:
        self._inner.sendall(data)

    def close(self) -> None:
        self._inner.close()

    def wait(self, seconds: float, /) -> bool:
        deadline = time.monotonic() + seconds
        while not self._ready:
            if not self._inner.wait(deadline - time.monotonic()):
                return False
            if not self._read_some(_KEPT):
                return True
        return True

    def last_words(self) -> str:
        """Return the last line that the process wrote to its standard error."""
        return last_line(self._said) or self._inner.last_words()

    def _read_some(self, size: int) -> bool:
        """Read once, be it of a header or of what a frame holds; False at the end."""
        if self._rest == 0:
            part = self._inner.recv(_HEADER - len(self._header))
            self._header += part
            if len(self._header) == _HEADER:
                self._begin_frame(self._header)
                self._header = b""
            return bool(part)
        data = self._inner.recv(min(size, self._rest))
        self._rest -= len(data)
        if self._is_output:
            self._ready += data
        else:
            self._said += data
            del self._said[:-_KEPT]
        return bool(data)

    def _begin_frame(self, header: bytes) -> None:
        if header[0] not in {_STDOUT, _STDERR} or header[1:4] != bytes(3):
            raise DaemonUnreachableError(f"the engine sends something that isn't the output of a program: {header!r}")
        self._is_output = header[0] == _STDOUT
        self._rest = int.from_bytes(header[4:], "big")
