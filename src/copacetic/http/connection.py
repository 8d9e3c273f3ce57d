# SPDX-License-Identifier: Apache-2.0
"""
Connections that keep to where they may go, and answers that have to come in time.

`http.client` waits for ever on a server that sends a little now and then, and reads as many interim answers as come.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPException, HTTPResponse, parse_headers
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from copacetic.http.reach import Reach

MAX_INTERIM = 5
"""Interim answers (1xx) before the one that counts, as in Go."""
SLOWEST = 1000
"""Bytes in a second that a server has to send in the long run."""


class InterimAnswersError(HTTPException):
    """More interim answers than anybody has a use for."""


class SlowAnswerError(OSError):
    """The server sends something, but too little."""


class _PatientReader(io.RawIOBase):
    """
    Runs out of patience when it has waited this much longer than the slowest server may let it wait.

    The time that a reader takes between two reads is not the server's.
    """

    def __init__(self, raw: io.RawIOBase, patience: float) -> None:
        self._raw = raw
        self._patience = self._left = patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        started = time.monotonic()
        size = self._raw.readinto(buffer)
        earned = (size or 0) / SLOWEST - (time.monotonic() - started)
        self._left = min(self._left + earned, self._patience)
        if self._left < 0 and size:
            raise SlowAnswerError("too slow")
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimelyAnswer(HTTPResponse):
    """An answer whose head and body come in time, after few interim answers."""

    patience: float

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        made: Any = self.fp  # a BufferedReader of the socket
        self.fp = io.BufferedReader(_PatientReader(made.detach(), self.patience))
        self._interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        """Read the first status that is final, or a switch of protocols; nobody asked for a hint before it."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._close_conn()  # type: ignore[attr-defined]
                raise InterimAnswersError(f"more than {MAX_INTERIM} interim answers")
            parse_headers(self.fp)


class _Reaching(HTTPConnection):
    """Connects to no address that is out of reach."""

    reach: Reach | None

    def _new_conn(self) -> socket.socket:
        """Resolve the name once, and connect to what may be connected to."""
        if self.reach is None:
            return super()._new_conn()
        name = self._dns_host
        try:
            rows = socket.getaddrinfo(name, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        failure: HTTPError | None = None
        for address in self.reach.select(name, self.port, dict.fromkeys(str(row[4][0]) for row in rows)):
            self._dns_host = address  # what urllib3 connects to
            try:
                return super()._new_conn()
            except HTTPError as error:
                failure = error
            finally:
                self._dns_host = name
        raise failure or NewConnectionError(self, "the name has no address")


def make_pool_classes(
    reach_given: Reach | None, *, patience_given: float, verified: bool
) -> dict[str, type[HTTPConnectionPool]]:
    """
    Return the kinds of connections for a pool manager; with a reach they go nowhere else.

    Not `verified` is what the user asked for, so urllib3 is kept from warning of it.
    """

    class Answer(TimelyAnswer):
        patience = patience_given

    class Plain(_Reaching):
        response_class = Answer
        reach = reach_given

    class Secure(_Reaching, HTTPSConnection):
        response_class = Answer
        reach = reach_given

        def connect(self) -> None:
            super().connect()
            self.is_verified = self.is_verified or not verified

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
