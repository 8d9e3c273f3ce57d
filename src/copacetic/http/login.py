# SPDX-License-Identifier: Apache-2.0
"""
What addresses are only answered with, kept apart from them: an address goes into plans and messages, this doesn't.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from copacetic.http.address import WebOrigin, find_origin
from copacetic.http.settings import TlsSettings


class Login(Struct, frozen=True, kw_only=True):
    """Goes to one origin only, with requests for paths below one."""

    origin: WebOrigin
    path: str = ""
    """Without a final slash."""
    secret: str
    """`user:password`."""

    def __repr__(self) -> str:
        return f"Login({self.origin}{self.path})"


class Ticket(Struct, frozen=True, kw_only=True):
    """What a subscriber shows instead of a login; goes where a `Login` would go."""

    origin: WebOrigin
    path: str = ""
    tls: TlsSettings | None = None
    """With a client's certificate."""
    query: str = ""
    """A token, to be put behind each address."""

    def __repr__(self) -> str:
        return f"Ticket({self.origin}{self.path})"


def find_ticket(tickets: Iterable[Ticket], url: str) -> Ticket | None:
    """Return what is to be shown at an address, by the rule of `find_login`."""
    origin, path = find_origin(url), urlsplit(url).path
    fitting = [ticket for ticket in tickets if ticket.origin == origin and f"{path}/".startswith(f"{ticket.path}/")]
    return max(fitting, key=lambda ticket: len(ticket.path), default=None)


def find_login(logins: Iterable[Login], url: str) -> str:
    """Return `user:password` for an address, or nothing; the longest path counts, and of equals the first."""
    origin, path = find_origin(url), urlsplit(url).path
    fitting = [login for login in logins if login.origin == origin and f"{path}/".startswith(f"{login.path}/")]
    return max(fitting, key=lambda login: len(login.path)).secret if fitting else ""
