# SPDX-License-Identifier: Apache-2.0
"""An answer whose body is read piece by piece, as it was sent: nothing is decoded on the way."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from copacetic.errors import IntegrityError, UnreachableError
from copacetic.http.address import join_address, show_address
from copacetic.http.failure import describe_failure

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

PIECE = 1 << 18
_DRAIN_LIMIT = 1 << 16


class Response:
    """An answer whose body is read piece by piece; a context manager that gives its connection back."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    url: str
    """After redirects, for messages; without credentials and query."""

    def __init__(self, raw: BaseHTTPResponse, address: str) -> None:
        self._raw = raw
        self._address = address
        self.status = raw.status
        self.headers = raw.headers
        self.url = show_address(address)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; b"" at the end. Raises `UnreachableError` on a broken connection."""
        from urllib3.exceptions import HTTPError

        try:
            return self._raw.read(None if size < 0 else size, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            self._raw.close()
            failure = describe_failure(error)
            raise UnreachableError(f"{self.url}: {failure.words}", hint=failure.hint) from error

    def read_all(self, limit: int) -> bytes:
        """Return the whole body; raises `IntegrityError` when it has more than `limit` bytes."""
        body = bytearray()
        while part := self.read(min(PIECE, limit + 1 - len(body))):
            body += part
            if len(body) > limit:
                self._raw.close()
                raise IntegrityError(f"{self.url}: the answer has more than {limit} bytes")
        return bytes(body)

    def resolve(self, link: str) -> str:
        """Return an address that this answer gives, made absolute. It may carry secrets: not for messages."""
        return join_address(self._address, link)

    def discard(self) -> None:
        """Be done with the answer; a short rest of the body is read, so that the connection can be kept."""
        with suppress(UnreachableError, IntegrityError):
            self.read_all(_DRAIN_LIMIT)
        self.close()

    def close(self) -> None:
        """Give the connection back; one with unread data is closed, others wait for the next request."""
        if self._raw.length_remaining == 0:
            self._raw.drain_conn()  # reads nothing, and lets http.client notice the end
        if not self._raw.closed:
            self._raw.close()
        self._raw.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
