# SPDX-License-Identifier: Apache-2.0
"""
Addresses (RFC 3986) as requests need them and as messages may show them.

What is shown never holds a user, a password, a query or a fragment: each of them may be a secret.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from copacetic.errors import UnreachableError
from copacetic.strict import split_address

_PORTS = {"http": 80, "https": 443}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class WebOrigin(NamedTuple):
    """Who answers (RFC 6454): credentials meant for one origin don't go to another."""

    scheme: str
    host: str
    port: int


def parse_address(url: str) -> SplitResult:
    """Split an address; raises `UnreachableError` when it isn't one of http or https with a host."""
    parts = split_address(url)
    if parts is None or parts.scheme not in _PORTS or not parts.hostname or _CONTROL.search(url):
        raise UnreachableError(f"{show_address(url)!r} is not an http or https address")
    return parts


def find_origin(url: str) -> WebOrigin:
    """Return the origin of an address, with the scheme's port where it names none."""
    parts = parse_address(url)
    return WebOrigin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def split_credentials(url: str) -> tuple[str, str]:
    """Return the address without user and password, and `user:password` unquoted (empty for none)."""
    parts = parse_address(url)
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=host, fragment="").geturl(), unquote(user) if at else ""


def show_address(url: str) -> str:
    """Return what a message may say of an address; text that is no address is shortened."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=netloc, query="", fragment="").geturl()
    except ValueError:
        return url.rpartition("@")[2].partition("?")[0][:200]


def join_address(base: str, link: str) -> str:
    """Return what a link in an answer means, relative to where that came from; userinfo in it is dropped."""
    try:
        return split_credentials(urljoin(base, link))[0]
    except ValueError as error:
        raise UnreachableError(f"{show_address(base)} gives a broken address") from error
