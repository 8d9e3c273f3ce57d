# SPDX-License-Identifier: Apache-2.0
"""Users and passwords for addresses, kept apart from them: an address goes into plans and messages, these don't."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from copacetic.http.address import Origin, find_origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Goes to one origin only, with requests for paths below one."""

    origin: Origin
    path: str = ""
    """Without a final slash."""
    secret: str = field(repr=False)
    """`user:password`."""


def find_login(logins: Iterable[Login], url: str) -> str:
    """Return `user:password` for an address, or nothing; the longest path counts, and of equals the first."""
    origin, path = find_origin(url), urlsplit(url).path
    fitting = [login for login in logins if login.origin == origin and f"{path}/".startswith(f"{login.path}/")]
    return max(fitting, key=lambda login: len(login.path)).secret if fitting else ""
