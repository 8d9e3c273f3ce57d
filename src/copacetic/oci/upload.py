# SPDX-License-Identifier: Apache-2.0
"""
Uploads of blobs: in one piece, or in chunks for large ones and for registries that want it so.

A way that is refused at once gives place to another: not every registry, or proxy before one, knows all. A chunk that
breaks is resumed where the registry says it got to; an upload that is lost starts again. The registry checks the digest
at the end, and what comes out of a source is also checked here before its last byte is sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urlencode

from msgspec import Struct

from copacetic.errors import (
    AuthenticationError,
    CopaError,
    RegistryError,
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
from copacetic.oci.uploadbody import Body

CHUNK = 64 * 1024 * 1024
"""Larger blobs go in chunks of this size."""
SMALL_CHUNK = 8 * 1024 * 1024
"""For registries, or proxies before them, to whom that is too large."""
_NOWHERE = "some registries want the repository to be made first, and some answer so when a login is missing"
_LARGEST_MINIMUM = 1 << 30
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({307, 308})
_UNKNOWN_WAY = frozenset({405, 411, 415, 501})
_LOST = frozenset({401, 404, 416})
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})", re.ASCII)
_logger = logging.getLogger(__name__)


class _InterruptedError(Exception):
    """The upload may work when it is tried again; `reason` is what to raise when not."""

    def __init__(self, reason: CopaError) -> None:
        self.reason = reason


class _OtherWayError(_InterruptedError):
    """The upload may work in another way."""


class _TooLargeError(_OtherWayError):
    """The upload may work in smaller chunks."""


class _Way(Struct, frozen=True, kw_only=True):
    """PUT with everything, or PATCH with chunks and an empty PUT."""

    chunk: int = 0
    ranged: bool = True
    """Whether a chunk says where it belongs; old registries take one endless chunk that doesn't."""

    @property
    def kind(self) -> tuple[bool, bool]:
        return bool(self.chunk), self.ranged


def _list_ways(size: int) -> list[_Way]:
    small, endless = _Way(chunk=SMALL_CHUNK), _Way(chunk=max(size, 1), ranged=False)
    return [_Way(chunk=CHUNK), small, _Way(), endless] if size > CHUNK else [_Way(), small, endless]


def _select_way(ways: list[_Way], refused: _Way, error: _OtherWayError) -> _Way | None:
    """Take the next one that may do better out of the list."""
    while ways:
        way = ways.pop(0)
        if way.chunk == SMALL_CHUNK if isinstance(error, _TooLargeError) else way.kind != refused.kind:
            return way
    return None


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
        ways = _list_ways(descriptor.size)
        way, breaks = ways.pop(0), 0
        while True:
            session = self._start(descriptor, location)
            location = ""
            try:
                self._send(session, body, way)
            except _OtherWayError as error:
                following = _select_way(ways, way, error)
                if following is None:
                    raise error.reason from error
                way = following
                _logger.debug("%s: again, in another way, after %s", session.what, error.reason)
                self.cancel(session)
            except _InterruptedError as error:
                if breaks >= self._client.http.settings.retries:
                    raise error.reason from error
                _logger.debug("%s: again, after %s", session.what, error.reason)
                self.cancel(session)
                self._client.http.pause(breaks)
                breaks += 1
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
                error = explain_answer(response, session.what)
                raise error.reworded(str(error), hint=_NOWHERE) if response.status == 404 else error
            self._follow(session, response)
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            session.least_chunk = min(int(least), _LARGEST_MINIMUM) if re.fullmatch(r"[0-9]{1,12}", least) else 0
        with self._lock:
            self._open.add(session)
        return session

    def _send(self, session: _Session, body: Body, way: _Way) -> None:
        size = session.descriptor.size
        if way.chunk:
            self._send_chunks(session, body, way)
        joint = "&" if "?" in session.location else "?"
        address = f"{session.location}{joint}{urlencode({'digest': str(session.descriptor.digest)})}"
        if way.chunk or not size:
            response = self._request("PUT", session, address, body=b"", retry=True)
        else:
            response = self._transfer("PUT", session, address, body, 0, size)
        if response.status != 201:
            raise _sort_refusal(response, session.what, content=not way.chunk)
        response.discard()

    def _send_chunks(self, session: _Session, body: Body, way: _Way) -> None:
        offset, breaks = 0, 0
        while offset < session.descriptor.size:
            stop = min(offset + max(way.chunk, session.least_chunk), session.descriptor.size)
            try:
                reached = self._send_chunk(session, body, offset, stop, ranged=way.ranged)
            except _OtherWayError:
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

    def _send_chunk(self, session: _Session, body: Body, start: int, stop: int, *, ranged: bool) -> int:
        headers = {"Content-Range": f"{start}-{stop - 1}"} if ranged else {}
        response = self._transfer("PATCH", session, session.location, body, start, stop, headers)
        if response.status not in {201, 202, 204}:
            raise _sort_refusal(response, session.what, content=True, first_chunk=not start)
        self._follow(session, response)
        return _find_offset(response, stop)

    def _transfer(
        self,
        method: str,
        session: _Session,
        address: str,
        body: Body,
        start: int,
        stop: int,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a part of a body, again wherever the registry wants to have it instead."""
        for _ in range(_MAX_REDIRECTS):
            pieces, length = body.pieces(start, stop), stop - start
            response = self._request(method, session, address, body=pieces, length=length, headers=headers)
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                break
            address = self._check_location(response.resolve(location))
            response.discard()
        return response

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
        body: bytes | Iterator[bytes] | None = None,
        length: int = 0,
        headers: Mapping[str, str] | None = None,
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


def _sort_refusal(response: Response, what: str, *, content: bool, first_chunk: bool = False) -> Exception:
    """Tell what a refusal means; `content` says that there was some in the request."""
    error = explain_answer(response, what)
    status = response.status
    if status == 413:
        return _TooLargeError(error)
    # Where nothing was sent before, nothing can be lost or out of place.
    unknown = status in _UNKNOWN_WAY or (first_chunk and status in {404, 416})
    if content and (unknown or (status == 400 and "DIGEST_INVALID" not in str(error))):
        return _OtherWayError(error)
    if is_transient(status) or status in _LOST:
        return _InterruptedError(error)
    return error
