# SPDX-License-Identifier: Apache-2.0
"""
Logins that an image keeps for its repositories: `apt_auth.conf(5)`.

    machine [https://]host[:port][/path] login USER password SECRET

As for apt, an entry without a scheme is about https alone. What can't be understood is nobody's login.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from copacetic.errors import UnreachableError
from copacetic.http.address import find_origin
from copacetic.http.login import Login
from copacetic.oci.filesystem import ImageFilesystem

__all__ = ["read_logins"]

LOGIN_LIMIT = 1024 * 1024
_FILE = "etc/apt/auth.conf"
_PART = re.compile(r"[A-Za-z0-9._-]+\.conf")
_HOST = re.compile(r"(?P<origin>https?://[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?)(?P<path>(?:/[!-~]*)?)")
_FIELDS = frozenset({"login", "password"})


def read_logins(fs: ImageFilesystem) -> list[Login]:
    """Return the logins of an image, in the order in which they count."""
    names = sorted(name for name in fs.iterdir(f"{_FILE}.d") if _PART.fullmatch(name))
    logins: list[Login] = []
    for path in (_FILE, *(f"{_FILE}.d/{name}" for name in names)):
        try:
            text = fs.read(path, limit=LOGIN_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        logins += _parse(text)
    return logins


def _parse(text: str) -> Iterator[Login]:
    words = iter(" ".join(line for line in text.split("\n") if not line.lstrip().startswith("#")).split())
    entry: dict[str, str] = {}
    for word in words:
        if word == "machine":
            yield from _login(entry)
            entry = {"machine": next(words, "")}
        elif word in _FIELDS:
            entry[word] = next(words, "")
    yield from _login(entry)


def _login(entry: dict[str, str]) -> Iterator[Login]:
    machine = entry.get("machine", "")
    match = _HOST.fullmatch(machine if "://" in machine else f"https://{machine}")
    if match is None or not entry.get("login"):
        return
    try:
        origin = find_origin(match["origin"])
    except UnreachableError:
        return
    secret = f"{entry['login']}:{entry.get('password', '')}"
    yield Login(origin=origin, path=match["path"].rstrip("/"), secret=secret)
