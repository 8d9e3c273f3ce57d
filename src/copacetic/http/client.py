# SPDX-License-Identifier: Apache-2.0
"""
Requests with retries and redirects.

Both are done here and not by urllib3, because what may be repeated, what a redirect may carry along and what
an error says are this program's promises.
"""

from __future__ import annotations

import logging
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import RefusedAddressError, StorageError, UnreachableError
from copacetic.http.address import find_origin, parse_address, show_address, split_credentials
from copacetic.http.failure import describe_failure
from copacetic.http.login import Login, Ticket, find_login, find_ticket
from copacetic.http.pool import Pools
from copacetic.http.reach import Reach
from copacetic.http.response import PIECE, Response
from copacetic.http.resume import ResumedBody
from copacetic.http.retry import backoff, is_transient, select_pause
from copacetic.http.settings import HttpSettings, TlsSettings

MAXREDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_logger = logging.getLogger(__name__)


class _Request(Struct, frozen=True, kw_only=True):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | Iterable[bytes] | None
    tls: TlsSettings

    @property
    def repeatable(self) -> bool:
        return self.body is None or isinstance(self.body, bytes)


class RefusedError(Exception):
    """The answer to a download is another one than the file."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class HttpClient:
    """Thread-safe; one for a whole run, so that connections are shared."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        sleep: Callable[[float], None] | None = None,
        pools: Pools | None = None,
        reach: Reach | None = None,
        logins: tuple[Login, ...] = (),
        tickets: tuple[Ticket, ...] = (),
    ) -> None:
        """Without a `reach` every address will do: the user has named it."""
        self.settings = settings
        self._sleep = time.sleep if sleep is None else sleep
        self._pools = pools or Pools(settings)
        self._reach = reach
        self._logins = logins
        self._tickets = tickets

    def within(self, reach: Reach, logins: Iterable[Login] = (), tickets: Iterable[Ticket] = ()) -> HttpClient:
        """
        Return a client for addresses that somebody else has chosen, which knows these logins; it shares connections.

        Every address that it comes by is held against `reach`, also those of redirects.
        """
        return HttpClient(
            self.settings,
            sleep=self._sleep,
            pools=self._pools,
            reach=reach,
            logins=tuple(logins),
            tickets=tuple(tickets),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that wait; the client can still be used, and opens new ones."""
        self._pools.close()

    def pause(self, attempt: int) -> None:
        """Wait as long as before a retry; for callers with retries of their own. The first attempt is 0."""
        self._sleep(backoff(attempt))

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        tls: TlsSettings | None = None,
        retry: bool = True,
        redirect: bool = True,
    ) -> Response:
        """
        Send a request and return the answer, whatever its status; after retries the last answer counts.

        A body that is an iterable can be sent once only, so it turns retries and redirects off. User and
        password in the address are sent as basic authentication.

        Raises `UnreachableError` when no answer comes: name resolution, connection, TLS, proxy, time-out.
        """
        known = {"User-Agent": self.settings.user_agent, **(headers or {})}
        ticket = find_ticket(self._tickets, url) if self._tickets else None
        if ticket is not None:
            url = f"{url}{'&' if '?' in url else '?'}{ticket.query}" if ticket.query else url
            tls = tls or ticket.tls
        request = _prepare(method, url, known, body, tls or TlsSettings(), self._logins)
        for _ in range(MAXREDIRECTS + 1):
            response = self._send(request, retry=retry)
            try:
                following = _follow(request, response) if redirect else None
            except UnreachableError:
                response.close()
                raise
            if following is None:
                return response
            response.discard()
            request = following
        raise UnreachableError(f"{show_address(url)}: more than {MAXREDIRECTS} redirects")

    def _send(self, request: _Request, *, retry: bool) -> Response:
        retries = self.settings.retries if retry and request.repeatable else 0
        for attempt in count():
            pause: float | None
            try:
                response = self._send_once(request)
            except _NoAnswerError as error:
                failure = describe_failure(error.reason)
                if attempt >= min(retries, failure.retries):
                    message = f"{show_address(request.url)}: {failure.words}"
                    raise UnreachableError(message, hint=failure.hint) from error.reason
                pause = backoff(attempt)
                _logger.debug("%s: %s, again in %.1f s", show_address(request.url), failure.words, pause)
            else:
                if attempt >= retries or not is_transient(response.status):
                    return response
                pause = select_pause(response.headers, attempt)
                if pause is None:
                    return response
                _logger.debug("%s: status %d, again in %.1f s", response.url, response.status, pause)
                response.discard()
            self._sleep(pause)
        raise AssertionError  # pragma: no cover

    def _send_once(self, request: _Request) -> Response:
        import urllib3

        timeout = urllib3.Timeout(connect=self.settings.connect_timeout, read=self.settings.read_timeout)
        try:
            pool = self._pools.select(request.url, request.tls, self._reach)
            raw = pool.urlopen(
                request.method,
                request.url,
                headers=request.headers,
                body=request.body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=timeout,
            )
        except RefusedAddressError as error:
            raise error.reworded(f"{show_address(request.url)}: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _NoAnswerError(error) from error
        return Response(raw, request.url)

    def stream(self, url: str, *, size: int) -> ResumedBody:
        """
        Fetch exactly `size` bytes as a stream, resuming broken transfers with Range.

        Raises `RefusedError` when the final status isn't 200, `UnreachableError` when the server gives up, and
        while reading also `IntegrityError`, when it sends more or less.
        """

        def reopen(more: Mapping[str, str]) -> Response:
            response = self.open("GET", url, headers=more)
            if response.status not in ((200, 206) if "Range" in more else (200,)):
                response.discard()
                raise RefusedError(response.status)
            return response

        return ResumedBody(reopen({}), reopen, size=size, breaks=self.settings.retries, pause=self.pause)

    def download(
        self,
        url: str,
        path: Path,
        *,
        size: int,
        advance: Callable[[int], None] | None = None,
    ) -> int:
        """
        Stream into a file, and return the final status: 200 when it is complete, otherwise that of the refusal (the
        file is then not meaningful). Raises as `stream` does, and `StorageError` when the file can't be written.
        """
        try:
            with self.stream(url, size=size) as body:
                _write(body, path, advance or (lambda _: None))
        except RefusedError as refused:
            return refused.status
        return 200


class _NoAnswerError(Exception):
    def __init__(self, reason: Exception) -> None:
        self.reason = reason


def _write(body: ResumedBody, path: Path, advance: Callable[[int], None]) -> None:
    try:
        with path.open("wb") as file:
            while data := body.read(PIECE):
                file.write(data)
                advance(len(data))
    except OSError as error:
        raise StorageError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _prepare(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | Iterable[bytes] | None,
    tls: TlsSettings,
    logins: Iterable[Login],
) -> _Request:
    address, credentials = split_credentials(url)
    credentials = credentials or find_login(logins, address)
    if credentials and not any(name.lower() == "authorization" for name in headers):
        headers = {**headers, "Authorization": "Basic " + b64encode(credentials.encode()).decode("ascii")}
    return _Request(method=method, url=address, headers=headers, body=body, tls=tls)


def _follow(request: _Request, response: Response) -> _Request | None:
    """Return the request that a redirect asks for, or None when the answer is none or can't be followed."""
    location = response.headers.get("Location")
    if response.status not in REDIRECTS or not location or not request.repeatable:
        return None
    method, body = request.method, request.body
    if response.status == 303 and method != "HEAD":
        method, body = "GET", None
    url = response.resolve(location)
    before, after = find_origin(request.url), find_origin(url)
    if before.scheme == "https" and after.scheme != "https":
        raise UnreachableError(
            f"{response.url}: redirects to plain HTTP on {parse_address(url).hostname}, which is refused",
            hint="the server's configuration is broken: nothing that came over HTTPS may go on without it",
        )
    headers, tls = request.headers, request.tls
    if before != after:
        headers = {name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}
        tls = replace(tls, client_cert=None, client_key=None)
    return replace(request, method=method, url=url, headers=headers, body=body, tls=tls)
