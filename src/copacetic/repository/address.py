# SPDX-License-Identifier: Apache-2.0
"""Addresses of repositories, as images and users spell them: what is secret in them is taken out at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from copacetic.errors import RepositoryError, UnreachableError, UsageError, hide_credentials
from copacetic.http import HttpClient
from copacetic.http.address import find_origin
from copacetic.http.login import Login, Ticket
from copacetic.http.reach import Reach
from copacetic.http.settings import TlsSettings

__all__ = ["Place", "is_plain_address", "open_client", "parse_address", "select_mirror"]

_FILE_LIMIT = 1024 * 1024
_WANTED_HINT = "write ADDRESS=FILE: a certificate with its key, username=… and password=…, or a token"
_TOKEN = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:@/?-]{1,4000}")
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


def open_client(
    http: HttpClient,
    reach: Reach,
    named: Iterable[str],
    logins: Iterable[Login | None],
    secrets: Iterable[tuple[str, Path]] = (),
) -> HttpClient:
    """
    Return a client for repositories: `named` are the addresses that are not the image's own choice, `secrets` the
    user's files by the beginnings of the addresses that want them. Raises `UsageError` for one that can't be used.
    """
    given = [read_secret(address, path) for address, path in secrets]
    tickets = [one for one in given if isinstance(one, Ticket)]
    mine = [one for one in given if isinstance(one, Login)]  # what the user says goes before what the image says
    return http.within(reach.naming(named), (*mine, *filter(None, logins)), tickets)


def read_secret(address: str, path: Path) -> Login | Ticket:
    """
    Read what a repository for subscribers wants: a client's certificate with its key (a file in PEM form, or a folder
    with `NAME.pem` and `NAME-key.pem`), a login (`username=…` and `password=…`), or a token (one line).
    """
    place = parse_address(address, "--repository-secret").url
    origin, folder = find_origin(place), urlsplit(place).path.rstrip("/")
    try:
        if path.is_dir():
            keys = sorted(path.glob("*-key.pem"))
            if not keys:
                raise UsageError(f"--repository-secret: {path} holds no NAME-key.pem", hint=_WANTED_HINT)
            path = path / f"{keys[0].name.removesuffix('-key.pem')}.pem"
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", hint="check --repository-secret") from error
    text = data.decode("utf-8", "replace")
    if "-----BEGIN " in text:
        key = path if "PRIVATE KEY-----" in text else path.with_name(f"{path.stem}-key.pem")
        return Ticket(origin=origin, path=folder, tls=TlsSettings(client_cert=path, client_key=key))
    values = dict(line.split("=", 1) for line in text.split() if "=" in line)
    if "username" in values and "password" in values:
        return Login(origin=origin, path=folder, secret=f"{values['username']}:{values['password']}")
    token = text.strip().removeprefix("?")
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"--repository-secret: {path} holds no certificate, login or token", hint=_WANTED_HINT)
    return Ticket(origin=origin, path=folder, query=token)
