# SPDX-License-Identifier: Apache-2.0
"""
The first bytes that a builder says, checked before HTTP/2 sees them.

An HTTP/2 server begins with a SETTINGS frame (RFC 9113, 3.4). Whoever says something else is something else, and who
says nothing at all would leave us waiting: both get a reason here.
"""

from __future__ import annotations

from copacetic.connect.stream import Stream, read_exactly
from copacetic.errors import DaemonUnreachableError

__all__ = ["GreetedStream", "is_settings_frame"]

_FRAME_HEADER = 9
_SETTINGS = 4
_TEXT_LIMIT, _TEXT_SECONDS = 1_000, 0.2
_TLS_ALERT = b"\x15\x03"


def is_settings_frame(header: bytes) -> bool:
    """Tell whether nine bytes are the header of a SETTINGS frame for the connection."""
    length = int.from_bytes(header[:3], "big")
    return len(header) == _FRAME_HEADER and header[3] == _SETTINGS and header[5:9] == bytes(4) and length % 6 == 0


class GreetedStream:
    """A stream whose first `recv` makes sure, within `seconds`, that a builder is at the other end."""

    def __init__(self, inner: Stream, *, seconds: float, name: str, hint: str | None = None) -> None:
        """`hint` is for an end or a silence without any word."""
        self._inner = inner
        self._hint = hint
        self._seconds = seconds
        self._name = name
        self._first: bytes | None = None
        self._closed = False

    def recv(self, size: int, /) -> bytes:
        if self._first is None:
            self._first = self._greet()
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._inner.recv(size)

    def sendall(self, data: bytes, /) -> None:
        try:
            self._inner.sendall(data)
        except (OSError, DaemonUnreachableError):
            # Who hangs up before a greeting has mostly said why, and reading gets to know that.
            if self._first is not None:
                raise

    def close(self) -> None:
        self._closed = True
        self._inner.close()

    def wait(self, seconds: float, /) -> bool:
        return bool(self._first) or self._inner.wait(seconds)

    def last_words(self) -> str:
        return self._inner.last_words()

    def _greet(self) -> bytes:
        try:
            header = read_exactly(self._inner, _FRAME_HEADER, seconds=self._seconds, name=self._name)
        except OSError as error:
            header, said = b"", error.strerror or str(error)
        else:
            said = "" if header or self._closed else self._inner.last_words()
        if is_settings_frame(header) or (self._closed and not header):
            return header
        what: str
        hint: str | None
        if not header:
            what, hint = said or "it closed the connection without a word", self._hint
        else:
            what, hint = _diagnose(header) or (
                f"something that isn't a builder answers there: {self._read_text(header)}",
                self._hint or "check the address",
            )
        raise DaemonUnreachableError(f"{self._name}: {what}", hint=hint)

    def _read_text(self, header: bytes) -> str:
        """Return what follows, in case somebody explains in words why there is no builder."""
        data = header
        try:
            while len(data) < _TEXT_LIMIT and self._inner.wait(_TEXT_SECONDS):
                part = self._inner.recv(_TEXT_LIMIT - len(data))
                if not part:
                    break
                data += part
        except OSError:
            pass
        text = data.decode("ascii", "replace").strip()
        return text if text.replace("\r\n", " ").replace("\n", " ").isprintable() else repr(header)


def _diagnose(header: bytes) -> tuple[str, str] | None:
    if header.startswith(b"HTTP/1"):
        return "a web server answers there, not a builder", "check the address; an engine's is docker://tcp://HOST:PORT"
    if header.startswith(_TLS_ALERT):
        return "it uses TLS, and the connection was plain", "give --cacert (and --cert and --key)"
    if header.startswith(b"SSH-"):
        return "an ssh server answers there, not a builder", "write ssh://[USER@]HOST"
    return None
