# SPDX-License-Identifier: Apache-2.0
"""
A program whose standard input and output are the stream, such as ssh or kubectl.

It is started from an argument vector, in a session of its own: Ctrl-C is for copacetic to handle, and a program
without a terminal can't stop to ask. What it writes to its standard error is kept, up to a limit, for the message.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from copacetic.connect.stream import wait_readable
from copacetic.errors import DaemonUnreachableError

__all__ = ["ProcessStream", "last_line"]

_KEPT = 4_096
_GRACE = 1.0
"""Seconds that a program has to end by itself after its input has ended, and again after SIGTERM."""


class ProcessStream:
    """A running program; closing it kills whatever of it still runs."""

    def __init__(self, arguments: Sequence[str], *, name: str, missing: str) -> None:
        """
        Start the program; `missing` is the hint for when it isn't installed.

        Raises `DaemonUnreachableError`.
        """
        self._name = name
        self._program = arguments[0]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - parts of the arguments went through a strict grammar
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise DaemonUnreachableError(f"{name}: {self._program} is not installed", hint=missing) from error
        except OSError as error:
            message = f"{name}: {self._program} can't be started: {error.strerror}"
            raise DaemonUnreachableError(message, hint=missing) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._said = bytearray()
        self._closed = False
        self._closing, self._writing = threading.Lock(), threading.Lock()
        self._listener = threading.Thread(target=self._listen, name=f"stderr of {self._program}", daemon=True)
        self._listener.start()

    def recv(self, size: int, /) -> bytes:
        try:
            return self._stdout.read(size)
        except (OSError, ValueError):  # the latter says that the file is closed
            if self._closed:
                return b""
            raise

    def sendall(self, data: bytes, /) -> None:
        rest = memoryview(data)
        with self._writing:
            while rest:
                try:
                    rest = rest[self._stdin.write(rest) :]
                except (BrokenPipeError, ValueError) as error:
                    said = "" if self._closed else self.last_words()
                    raise DaemonUnreachableError(f"{self._name}: {said or 'the connection is closed'}") from error

    def wait(self, seconds: float, /) -> bool:
        return wait_readable(self._stdout.fileno(), seconds)

    def last_words(self) -> str:
        """Return the last line of its standard error, and how it ended, if it did."""
        try:
            status = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return last_line(self._said)
        self._listener.join(_GRACE)
        ended = f"{self._program} ended with status {status}" if status >= 0 else f"{self._program} was killed"
        line = last_line(self._said)
        return f"{ended}: {line}" if line else ended

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            # Such programs wait for the end of their input; while a thread is stuck in writing, only signals help.
            if self._writing.acquire(blocking=False):
                try:
                    self._stdin.close()
                finally:
                    self._writing.release()
            if self._process.poll() is None:
                self._end()
            self._listener.join(_GRACE)
            with self._writing, suppress(OSError):
                self._stdin.close()
            self._stdout.close()

    def _end(self) -> None:
        """End the program and what it started: reaping comes last, so that its number still is its own."""
        if not self._wait_for_end(_GRACE):
            self._signal(signal.SIGTERM)
            self._wait_for_end(_GRACE)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _wait_for_end(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # reaped by another thread
            return True

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _listen(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        with pipe:
            while data := pipe.read(_KEPT):
                self._said += data
                del self._said[:-_KEPT]


def last_line(said: bytes | bytearray) -> str:
    """Return the last line with something on it, of untrusted text, shortened."""
    lines = [line.strip() for line in bytes(said).decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")[:400]
