# SPDX-License-Identifier: Apache-2.0
"""Addresses of repositories, as images and users spell them: what is secret in them is taken out at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from copacetic.errors import RepositoryError, UnreachableError, hide_credentials
from copacetic.http import HttpClient
from copacetic.http.address import find_origin
from copacetic.http.login import Login
from copacetic.http.reach import Reach

__all__ = ["Place", "is_plain_address", "open_client", "parse_address", "select_mirror"]

_WEB = re.compile(r"https?:", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?P<scheme>https?://)(?:(?P<secret>[^\x00-\x20\x7f/?#@\\]*)@)?"
    r"(?P<host>(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?)"
    r"(?P<path>(?:/[^\x00-\x20\x7f?#\\]*)?)",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """Where a repository is, without a trailing slash, and the login that its address held."""

    url: str
    login: Login | None


def parse_address(text: str, where: str) -> Place:
    """
    Take user and password out of an address; what isn't of http or https is left as it is, since nobody goes there.

    Raises `RepositoryError`: a query or a fragment would turn what is appended to an address into something else.
    """
    if not _WEB.match(text):
        return Place(text.rstrip("/"), None)
    match = _ADDRESS.fullmatch(text)
    if match is None:
        shown, secret, _ = hide_credentials(text).replace("#", "?").partition("?")
        shown = f"{shown[:120]}?…" if secret else shown[:120]
        raise RepositoryError(f"{where}: not a repository's address: {shown!r}")
    url = f"{match['scheme'].lower()}{match['host']}{match['path']}".rstrip("/")
    try:
        origin = find_origin(url)
    except UnreachableError as error:
        raise RepositoryError(f"{where}: {error}") from error
    if not match["secret"]:
        return Place(url, None)
    user, _, password = match["secret"].partition(":")
    path = match["path"].partition("$")[0].rstrip("/")  # from a variable on it is another one
    return Place(url, Login(origin=origin, path=path, secret=f"{unquote(user)}:{unquote(password)}"))


def is_plain_address(text: str) -> bool:
    """Tell whether a text is an address of http or https that holds no secret and nothing odd."""
    try:
        return bool(_WEB.match(text)) and text.isascii() and parse_address(text, "").login is None
    except RepositoryError:
        return False


def select_mirror(place: Place, mirrors: Sequence[tuple[str, str]]) -> tuple[Place, bool]:
    """
    Return a place with the beginning of its address replaced, and whether it was; of several prefixes that fit the
    longest counts.
    """
    for old, new in sorted(mirrors, key=lambda pair: -len(pair[0])):
        prefix = hide_credentials(old).rstrip("/")
        if place.url == prefix or place.url.startswith(f"{prefix}/"):
            mirror = parse_address(new, "--repository-mirror")
            return Place(mirror.url + place.url[len(prefix) :], mirror.login), True
    return place, False


def open_client(http: HttpClient, reach: Reach, named: Iterable[str], logins: Iterable[Login | None]) -> HttpClient:
    """Return a client for repositories: `named` are the addresses that are not the image's own choice."""
    return http.within(reach.naming(named), filter(None, logins))
