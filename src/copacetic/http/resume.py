# SPDX-License-Identifier: Apache-2.0
"""
A body of a known size, read across broken connections with Range (RFC 9110, 14).

A server that ignores Range is read again from the beginning, and what is known already is skipped. Nobody
gets more than `size` bytes; whether they are the right ones is for the reader's digest to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Self

from copacetic.errors import IntegrityError, UnreachableError
from copacetic.http.response import PIECE, Response

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_PROGRESS = 1 << 20
"""Breaks are counted anew after this many bytes: a slow line may break often, as long as it gets on."""


class ResumedBody:
    """
    Reads exactly `size` bytes.

    `reopen` sends the request again with more headers, and returns an answer of status 200 or 206, or raises.
    `pause` is called before it with the number of breaks so far, and raises nothing.
    """

    def __init__(
        self,
        first: Response,
        reopen: Callable[[Mapping[str, str]], Response],
        *,
        size: int,
        breaks: int,
        pause: Callable[[int], None],
    ) -> None:
        self._response = first
        self._reopen = reopen
        self._size = size
        self._breaks_allowed = breaks
        self._pause = pause
        self._at = 0
        self._breaks = 0
        self._progress = 0
        self._validator = _find_validator(first.headers)
        declared = first.headers.get("Content-Length", "")
        if declared.isdecimal() and declared.lstrip("0") != str(size).lstrip("0"):
            first.close()
            raise IntegrityError(f"{first.url}: has {declared[:20]} bytes instead of {size}")

    def read(self, size: int, /) -> bytes:
        """
        Return up to `size` bytes; b"" after the last.

        Raises `IntegrityError` when the server sends more or fewer, `UnreachableError` when it breaks too
        often.
        """
        if self._at == self._size:
            self._expect_end()
            return b""
        while True:
            try:
                data = self._response.read(min(size, self._size - self._at))
            except UnreachableError as error:
                self._resume(error)
                continue
            if data:
                self._at += len(data)
                self._progress += len(data)
                if self._progress >= _PROGRESS:
                    self._breaks = 0
                return data
            message = f"{self._response.url}: ends after {self._at} of {self._size} bytes"
            self._resume(IntegrityError(message))

    def close(self) -> None:
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _expect_end(self) -> None:
        """Also makes the connection free for the next request."""
        try:
            more = self._response.read(1)
        except UnreachableError:
            return
        if more:
            self.close()
            raise IntegrityError(f"{self._response.url}: has more than {self._size} bytes")

    def _resume(self, reason: UnreachableError | IntegrityError) -> None:
        """Ask for the rest; what goes wrong on the way counts as a break, too."""
        while True:
            self.close()
            self._breaks += 1
            self._progress = 0
            if self._breaks > self._breaks_allowed:
                raise reason
            self._pause(self._breaks - 1)
            headers = {}
            if self._at:
                headers["Range"] = f"bytes={self._at}-"
                if self._validator:
                    headers["If-Range"] = self._validator
            self._response = self._reopen(headers)
            try:
                self._position()
            except UnreachableError as error:
                reason = error
                continue
            return

    def _position(self) -> None:
        """Bring the new answer to where the old one broke."""
        response = self._response
        if response.status == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != self._at or (found[3] != "*" and int(found[3]) != self._size):
                response.close()
                raise IntegrityError(f"{response.url}: answers with another range than asked for")
            return
        skip = self._at
        while skip:
            part = response.read(min(PIECE, skip))
            if not part:
                raise UnreachableError(f"{response.url}: ends before byte {self._at}")
            skip -= len(part)


def _find_validator(headers: Mapping[str, str]) -> str:
    """Return an entity tag that is good enough for If-Range; weak ones aren't."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else ""
