# SPDX-License-Identifier: Apache-2.0
"""
Uploads of blobs: in one piece, or in chunks for large ones and for registries that want it so.

A chunk that breaks is resumed where the registry says it got to; an upload that is lost starts again. The registry
checks the digest at the end, and what comes out of a source is also checked here before its last byte is sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Protocol
from urllib.parse import urlencode

from copacetic.errors import (
    AuthenticationError,
    CopaError,
    IntegrityError,
    RegistryError,
    StorageError,
    UnreachableError,
)
from copacetic.http import Response
from copacetic.http.address import find_origin
from copacetic.http.retry import is_transient
from copacetic.oci.challenge import PUSH
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import Endpoint
from copacetic.oci.registryerror import explain_answer
from copacetic.oci.transport import ByteStream, Source

CHUNK = 64 * 1024 * 1024
"""Larger blobs go in chunks of this size."""
SMALL_CHUNK = 8 * 1024 * 1024
"""For registries, or proxies before them, to whom that is too large."""
PIECE = 1 << 20
_LARGEST_MINIMUM = 1 << 30
_TOO_LARGE = frozenset({405, 411, 413, 415, 501})
_LOST = frozenset({401, 404, 416})
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})", re.ASCII)
_logger = logging.getLogger(__name__)


class Body(Protocol):
    """Bytes that can be sent again."""

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes between two positions."""
        ...


@dataclass(frozen=True, slots=True)
class FileBody:
    """A local file."""

    path: Path

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                while start < stop:
                    piece = file.read(min(PIECE, stop - start))
                    if not piece:
                        raise IntegrityError(f"{self.path}: ends after {start} of {stop} bytes")
                    start += len(piece)
                    yield piece
        except OSError as error:
            raise StorageError(f"{self.path}: {(error.strerror or str(error)).lower()}") from error


class SourceBody:
    """A blob of a source, streamed; checked whenever its end is reached. Going back means reading it again."""

    def __init__(self, source: Source, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor
        self._open = ExitStack()
        self._stream: ByteStream | None = None
        self._hasher = descriptor.digest.hasher()
        self._at = 0

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        if self._stream is None or start < self._at:
            self.close()
            self._stream = self._open.enter_context(self._source.open_blob(self._descriptor))
            self._hasher = self._descriptor.digest.hasher()
            self._at = 0
        while self._at < start:
            self._read(min(PIECE, start - self._at))
        while self._at < stop:
            yield self._read(min(PIECE, stop - self._at))

    def close(self) -> None:
        self._open.close()
        self._stream = None

    def _read(self, size: int) -> bytes:
        assert self._stream is not None
        piece = self._stream.read(size)
        where = f"{self._source.name}: {self._descriptor.digest}"
        if not piece:
            raise IntegrityError(f"{where} ends after {self._at} of {self._descriptor.size} bytes")
        self._hasher.update(piece)
        self._at += len(piece)
        if self._at == self._descriptor.size and self._hasher.hexdigest() != self._descriptor.digest.encoded:
            raise IntegrityError(f"{where} has another digest: {self._hasher.hexdigest()}")
        return piece


class _InterruptedError(Exception):
    """The upload may work when it is tried again; `reason` is what to raise when not."""

    def __init__(self, reason: CopaError) -> None:
        self.reason = reason


class _TooLargeError(_InterruptedError):
    """The upload may work in smaller chunks."""


class Uploader:
    """Uploads into one repository; thread-safe."""

    def __init__(self, client: RegistryClient, endpoint: Endpoint, name: str) -> None:
        self._client = client
        self._endpoint = endpoint
        self._name = name
        self._lock = Lock()
        self._open: set[_Session] = set()

    def mount(self, descriptor: Descriptor, repository: str) -> str | None:
        """
        Let the registry take a blob from another repository of its own.

        Returns None when that is done, otherwise the address of an upload that was begun instead, empty for none.
        """
        query = urlencode({"mount": str(descriptor.digest), "from": repository})
        try:
            response = self._client.send(
                self._endpoint,
                "POST",
                f"blobs/uploads/?{query}",
                what=self._what(descriptor),
                actions=PUSH,
                also_pull=repository,
                headers={"Content-Length": "0"},
            )
        except AuthenticationError:  # perhaps for the other repository only
            return ""
        location = response.headers.get("Location", "")
        response.discard()
        if response.status == 201:
            return None
        return response.resolve(location) if response.status == 202 and location else ""

    def upload(self, descriptor: Descriptor, body: Body, *, location: str = "") -> None:
        """Upload a blob; `location` is that of an upload already begun."""
        chunk = CHUNK if descriptor.size > CHUNK else 0
        for attempt in count():
            session = self._start(descriptor, location)
            location = ""
            try:
                self._send(session, body, chunk)
            except _TooLargeError as error:
                if chunk == SMALL_CHUNK:
                    raise error.reason from error
                chunk = SMALL_CHUNK
                _logger.debug("%s: again, in chunks of %d bytes", session.what, chunk)
                self.cancel(session)
            except _InterruptedError as error:
                if attempt >= self._client.http.settings.retries:
                    raise error.reason from error
                _logger.debug("%s: again, after %s", session.what, error.reason)
                self.cancel(session)
                self._client.http.pause(attempt)
            else:
                with self._lock:
                    self._open.discard(session)
                return

    def cancel(self, session: _Session) -> None:
        """Tell the registry to forget an upload; if it doesn't listen, it will find out itself."""
        with self._lock:
            self._open.discard(session)
        with suppress(CopaError):
            self._request("DELETE", session, session.location, retry=False).discard()

    def abandon(self, descriptor: Descriptor, location: str) -> None:
        """Cancel an upload that was begun and isn't needed."""
        self.cancel(self._start(descriptor, location))

    def close(self) -> None:
        """Cancel what is unfinished."""
        while self._open:
            self.cancel(next(iter(self._open)))

    def _start(self, descriptor: Descriptor, location: str) -> _Session:
        session = _Session(self._what(descriptor), descriptor)
        if location:
            session.location = self._check_location(location)
        else:
            response = self._client.send(
                self._endpoint,
                "POST",
                "blobs/uploads/",
                what=session.what,
                actions=PUSH,
                headers={"Content-Length": "0"},
            )
            if response.status != 202:
                raise explain_answer(response, session.what)
            self._follow(session, response)
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            session.least_chunk = min(int(least), _LARGEST_MINIMUM) if re.fullmatch(r"[0-9]{1,12}", least) else 0
        with self._lock:
            self._open.add(session)
        return session

    def _send(self, session: _Session, body: Body, chunk: int) -> None:
        size = session.descriptor.size
        offset = 0
        if chunk:
            self._send_chunks(session, body, max(chunk, session.least_chunk))
            offset = size
        joint = "&" if "?" in session.location else "?"
        address = f"{session.location}{joint}{urlencode({'digest': str(session.descriptor.digest)})}"
        response = self._request("PUT", session, address, body=body.pieces(offset, size), length=size - offset)
        if response.status != 201:
            raise _sort_refusal(response, session.what)
        response.discard()

    def _send_chunks(self, session: _Session, body: Body, chunk: int) -> None:
        offset, breaks = 0, 0
        while offset < session.descriptor.size:
            stop = min(offset + chunk, session.descriptor.size)
            try:
                reached = self._send_chunk(session, body, offset, stop)
            except _TooLargeError:
                raise
            except _InterruptedError as error:
                breaks += 1
                if breaks > self._client.http.settings.retries:
                    raise
                self._client.http.pause(breaks - 1)
                reached = self._ask_offset(session, error)
                _logger.debug("%s: resumed at %d after %s", session.what, reached, error.reason)
            if not 0 <= reached <= stop:
                raise RegistryError(f"{session.what}: the registry claims to have {reached} of {stop} bytes sent")
            breaks = 0 if reached > offset else breaks
            offset = reached

    def _send_chunk(self, session: _Session, body: Body, start: int, stop: int) -> int:
        response = self._request(
            "PATCH",
            session,
            session.location,
            body=body.pieces(start, stop),
            length=stop - start,
            headers={"Content-Range": f"{start}-{stop - 1}"},
        )
        if response.status not in {201, 202, 204}:
            raise _sort_refusal(response, session.what)
        self._follow(session, response)
        return _find_offset(response, stop)

    def _ask_offset(self, session: _Session, interruption: _InterruptedError) -> int:
        """Ask how far an upload got. One that the registry doesn't know any more has to start again."""
        try:
            response = self._request("GET", session, session.location, retry=True)
        except _InterruptedError:
            raise interruption from None
        if response.status not in {200, 202, 204} or not _RANGE.fullmatch(response.headers.get("Range", "")):
            response.discard()
            raise interruption
        self._follow(session, response)
        return _find_offset(response, 0)

    def _request(
        self,
        method: str,
        session: _Session,
        address: str,
        *,
        body: Iterator[bytes] | None = None,
        length: int = 0,
        headers: dict[str, str] | None = None,
        retry: bool = False,
    ) -> Response:
        known = dict(headers or {})
        if body is not None:
            known |= {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        try:
            return self._client.send(
                self._endpoint,
                method,
                address,
                what=session.what,
                actions=PUSH,
                headers=known,
                body=body,
                retry=retry,
            )
        except UnreachableError as error:
            raise _InterruptedError(error) from error

    def _follow(self, session: _Session, response: Response) -> None:
        """Note where the upload goes on, and be done with the answer."""
        location = response.headers.get("Location", "")
        response.discard()
        if location:
            session.location = self._check_location(response.resolve(location))
        elif not session.location:
            raise RegistryError(f"{session.what}: the registry begins an upload and doesn't say where")

    def _check_location(self, location: str) -> str:
        if find_origin(location).scheme == "http" and not self._client.find_base(self._endpoint).startswith("http:"):
            raise RegistryError(
                f"{self._name}: the registry wants the upload over plain HTTP, which is refused",
                hint="the proxy before the registry must tell it about HTTPS (X-Forwarded-Proto)",
            )
        return location

    def _what(self, descriptor: Descriptor) -> str:
        return f"{self._name}: uploading {descriptor.digest}"


@dataclass(slots=True, eq=False)
class _Session:
    """An upload that was begun."""

    what: str
    descriptor: Descriptor
    location: str = ""
    least_chunk: int = 0


def _find_offset(response: Response, default: int) -> int:
    """Return how many bytes the registry has. `0-0` means none: nobody sends a chunk of one byte."""
    found = _RANGE.fullmatch(response.headers.get("Range", ""))
    if not found:
        return default
    last = int(found[1])
    return last + 1 if last else 0


def _sort_refusal(response: Response, what: str) -> Exception:
    error = explain_answer(response, what)
    if response.status in _TOO_LARGE:
        return _TooLargeError(error)
    if is_transient(response.status) or response.status in _LOST:
        return _InterruptedError(error)
    return error
