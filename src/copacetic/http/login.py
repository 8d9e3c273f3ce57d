# SPDX-License-Identifier: Apache-2.0
"""Users and passwords for addresses, kept apart from them: an address goes into plans and messages, these don't."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from copacetic.http.address import WebOrigin, find_origin


class Login(Struct, frozen=True, kw_only=True):
    """Goes to one origin only, with requests for paths below one."""

    origin: WebOrigin
    path: str = ""
    """Without a final slash."""
    secret: str
    """`user:password`."""

    def __repr__(self) -> str:
        return f"Login({self.origin}{self.path})"


def find_login(logins: Iterable[Login], url: str) -> str:
    """Return `user:password` for an address, or nothing; the longest path counts, and of equals the first."""
    origin, path = find_origin(url), urlsplit(url).path
    fitting = [login for login in logins if login.origin == origin and f"{path}/".startswith(f"{login.path}/")]
    return max(fitting, key=lambda login: len(login.path)).secret if fitting else ""
