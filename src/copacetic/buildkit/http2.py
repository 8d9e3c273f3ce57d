# SPDX-License-Identifier: Apache-2.0
"""
One HTTP/2 connection over a byte stream, as client or as server: streams with flow control, for threads.

A thread reads and a thread writes, so that a caller that is interrupted never leaves half a frame behind, and reading
never waits for writing. What arrives is acknowledged when it is taken, so a slow reader slows the peer down instead
of filling the memory: at most 32 MiB wait on a connection.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, RLock, Thread, current_thread
from typing import Any

from copacetic.buildkit.http2stream import (
    CANCEL,
    ConnectionLostError,
    Headers,
    Http2Stream,
    decode_headers,
    tell_stream,
)
from copacetic.connect.stream import Duplex
from copacetic.errors import DaemonUnreachableError, SolverError

__all__ = ["CANCEL", "Connection", "ConnectionLostError", "Headers", "Http2Stream"]

_NO_ERROR = 0
_STREAM_WINDOW = 4 << 20
_CONNECTION_WINDOW = 32 << 20
_MAX_UNSENT = 1 << 20
_MAX_STREAMS = 100
_READ = 1 << 18
_FAREWELL = 1.0
"""Seconds that closing waits for the last frames to leave."""
_logger = logging.getLogger(__name__)


class Connection:
    """
    `accept` is called in a thread of its own for each stream that the peer opens; without it the peer may open none.

    `lost` is called once when the connection ends, however it ends.
    """

    def __init__(
        self,
        stream: Duplex,
        *,
        client: bool,
        name: str,
        accept: Callable[[Http2Stream], None] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.lock = RLock()
        self.failure: ConnectionLostError | None = None
        self.last_heard = time.monotonic()
        self.name = name
        self._stream = stream
        self._client = client
        self._accept = accept
        self._lost = lost
        self._streams: dict[int, Http2Stream] = {}
        self._out = bytearray()
        self._writable = Condition(self.lock)
        self._greeted = Condition(self.lock)
        self._greeting_seen = False
        self._h2 = self._start()
        self._threads = [
            Thread(target=target, name=f"copa-http2-{role}", daemon=True)
            for role, target in (("read", self._read), ("write", self._write))
        ]
        for thread in self._threads:
            thread.start()

    def _start(self) -> Any:
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.settings import SettingCodes, Settings

        h2 = H2Connection(H2Configuration(client_side=self._client, header_encoding=None))
        settings = {
            SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            SettingCodes.MAX_CONCURRENT_STREAMS: _MAX_STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: h2.DEFAULT_MAX_HEADER_LIST_SIZE,
        }
        if self._client:
            settings[SettingCodes.ENABLE_PUSH] = 0
        h2.local_settings = Settings(client=self._client, initial_values=settings)
        h2.initiate_connection()
        h2.increment_flow_control_window(_CONNECTION_WINDOW - 65_535)
        self._out += h2.data_to_send()
        return h2

    def wait_greeting(self, limit: float) -> None:
        """Wait for the peer's first frame, its settings. Raises `ConnectionLostError` when it doesn't come."""
        with self.lock:
            self._greeted.wait_for(lambda: self._greeting_seen or self.failure is not None, limit)
            if self.failure is not None:
                raise self.failure
            if not self._greeting_seen:
                raise ConnectionLostError(
                    f"{self.name} said nothing for {limit:g} seconds: is that a builder's address?"
                )

    def open(self, headers: Headers) -> Http2Stream:
        """Open a stream, as a client."""
        from h2.exceptions import ProtocolError

        with self.lock:
            self._check()
            try:
                number = self._h2.get_next_available_stream_id()
                stream = self._streams[number] = Http2Stream(self, number)
                self._h2.send_headers(number, headers)
            except ProtocolError as error:
                self._fail(f"{self.name} takes no more calls: {error}")
                self._check()
            self._flush()
            return stream

    def close(self) -> None:
        """End everything. What waits on a stream raises. Never raises, and may be called twice."""
        with self.lock:
            if self.failure is None:
                with suppress(Exception):
                    self._h2.close_connection()
                    self._flush()
        self._fail(f"the connection to {self.name} was closed", at_once=False)
        if current_thread() is not self._threads[1]:
            self._threads[1].join(_FAREWELL)
        with suppress(OSError):
            self._stream.close()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    # For streams; the lock is held or taken.

    def acknowledge(self, number: int, size: int, *, ended: bool) -> None:
        """Tell the peer that it may send as much again."""
        if self.failure is not None or not size:
            return
        from h2.exceptions import ProtocolError

        with suppress(ProtocolError):
            self._h2.increment_flow_control_window(size)
            if not ended and number in self._streams:
                self._h2.increment_flow_control_window(size, number)
        self._flush()

    def room(self, number: int) -> int:
        """Return how much may be sent at once; 0 while the peer, or our own writing, is behind."""
        if len(self._out) >= _MAX_UNSENT or number not in self._streams:
            return 0
        return min(int(self._h2.local_flow_control_window(number)), int(self._h2.max_outbound_frame_size))

    def send_headers(self, number: int, headers: Headers, *, end: bool) -> None:
        self._send(number, lambda: self._h2.send_headers(number, headers, end_stream=end))

    def send_data(self, number: int, data: bytes) -> None:
        self._send(number, lambda: self._h2.send_data(number, data))

    def send_end(self, number: int) -> None:
        self._send(number, lambda: self._h2.end_stream(number))

    def reset(self, number: int, code: int) -> None:
        from h2.exceptions import ProtocolError

        with self.lock:
            stream = self._streams.pop(number, None)
            if stream is None:
                return
            if stream.reset_code is None:
                stream.reset_code = code
            stream.notify()
            if self.failure is None:
                with suppress(ProtocolError):
                    self._h2.reset_stream(number, code)
                self.acknowledge(number, stream.unread, ended=True)
                self._flush()

    def _send(self, number: int, action: Callable[[], None]) -> None:
        from h2.exceptions import ProtocolError

        with self.lock:
            self._check()
            try:
                action()
            except ProtocolError as error:
                raise BrokenPipeError(f"stream {number} is closed") from error
            self._flush()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _flush(self) -> None:
        """Hand what is to be sent to the writer."""
        self._out += self._h2.data_to_send()
        if self._out:
            self._writable.notify_all()

    def _fail(self, reason: str, *, hint: str | None = None, at_once: bool = True) -> None:
        with self.lock:
            if self.failure is not None:
                return
            self.failure = ConnectionLostError(reason, hint=hint)
            self._greeted.notify_all()
            self._writable.notify_all()
            for stream in self._streams.values():
                stream.notify()
        if at_once:
            with suppress(OSError):
                self._stream.close()
        if self._lost is not None:
            self._lost()

    def _write(self) -> None:
        while True:
            with self.lock:
                self._writable.wait_for(lambda: self._out or self.failure is not None)
                data = bytes(self._out)
                self._out.clear()
                over = self.failure is not None
                for stream in self._streams.values():
                    stream.notify()
            try:
                if data:
                    self._stream.sendall(data)
            except (SolverError, DaemonUnreachableError) as error:
                self._fail(str(error), hint=error.hint)
                over = True
            except (OSError, ValueError) as error:
                self._fail(_lost_because(self.name, error))
                over = True
            if over:
                with suppress(OSError):
                    self._stream.close()
                return

    def _read(self) -> None:
        reason, hint = f"{self.name} closed the connection", None
        try:
            while self.failure is None:
                data = self._stream.recv(_READ)
                if not data:
                    break
                self.last_heard = time.monotonic()
                with self.lock:
                    for event in self._h2.receive_data(data):
                        self._handle(event)
                    self._flush()
        except (SolverError, DaemonUnreachableError) as error:
            reason, hint = str(error), error.hint
        except (OSError, ValueError) as error:
            reason = _lost_because(self.name, error)
        except Exception as error:  # whatever a hostile peer makes h2 raise
            _logger.debug("http/2 with %s", self.name, exc_info=True)
            reason = f"{self.name} doesn't speak HTTP/2 as it should: {str(error)[:200] or type(error).__name__}"
            with self.lock, suppress(Exception):
                self._flush()
        self._fail(reason, hint=hint)

    def _handle(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "ConnectionTerminated":
            text = bytes(event.additional_data or b"").decode("utf-8", "replace")[:200]
            raise ConnectionLostError(f"{self.name} ended the connection: {text or f'code {int(event.error_code)}'}")
        if kind == "RequestReceived":
            self._accepted(event)
        number = getattr(event, "stream_id", None) or 0
        if kind == "RemoteSettingsChanged" or (kind == "WindowUpdated" and not number):
            self._greeting_seen = self._greeting_seen or kind == "RemoteSettingsChanged"
            self._greeted.notify_all()
            for one in self._streams.values():
                one.notify()
        elif number in self._streams:
            tell_stream(self._streams[number], kind, event)
        elif kind == "DataReceived":
            self.acknowledge(0, event.flow_controlled_length, ended=True)

    def _accepted(self, event: Any) -> None:
        if self._accept is None:
            raise ConnectionLostError(f"{self.name} opens streams, which only a client may do")
        stream = self._streams[event.stream_id] = Http2Stream(self, event.stream_id)
        stream.headers = decode_headers(event.headers)
        Thread(target=self._serve, args=(stream,), name="copa-http2-call", daemon=True).start()

    def _serve(self, stream: Http2Stream) -> None:
        assert self._accept is not None
        try:
            self._accept(stream)
        except (ConnectionLostError, BrokenPipeError, TimeoutError):
            _logger.debug("a call from %s broke off", self.name, exc_info=True)
        finally:
            stream.reset(_NO_ERROR)


def _lost_because(name: str, error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"the connection to {name} broke: {text.lower()}"
