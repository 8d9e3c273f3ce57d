# SPDX-License-Identifier: Apache-2.0
"""
What a registry asks for: WWW-Authenticate (RFC 9110, 11.6.1) and the scopes of the distribution's token protocol.

A header may hold several challenges, and several headers are joined by commas; both look the same here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar
_SPACE = re.compile(r"[\s,]*")
_SCHEME = re.compile(_TOKEN)
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_LIMIT = 64 * 1024

PULL = "pull"
PUSH = "pull,push"


class Challenge(Struct, frozen=True):
    """One way to authenticate. The scheme and the names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges in their order; what can't be understood ends the list."""
    header = header[:_LIMIT]
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    at = 0
    while True:
        at = _end(_SPACE, header, at)
        if found and (match := _PARAMETER.match(header, at)):
            quoted, plain = match[2], match[3]
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(match[1].lower(), value)
            at = match.end()
        elif match := _SCHEME.match(header, at):
            parameters = {}
            found.append(Challenge(match[0].lower(), parameters))
            at = _end(_TOKEN68, header, match.end())
        else:
            return tuple(found)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def select_challenge(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the one to answer: a usable Bearer before Basic."""
    usable = [c for c in challenges if c.scheme == "basic" or (c.scheme == "bearer" and c.parameters.get("realm"))]
    return min(usable, key=lambda c: c.scheme != "bearer", default=None)


def make_scope(repository: str, actions: str) -> str:
    """Return the scope of a repository; `actions` is `PULL` or `PUSH`."""
    return f"repository:{repository}:{actions}"


def merge_scopes(*scopes: str) -> tuple[str, ...]:
    """Join scopes that are about the same thing, so that each is asked for once; sorted."""
    merged: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        if resource:
            merged.setdefault(resource, set()).update(filter(None, actions.split(",")))
        elif actions:
            merged.setdefault(scope, set())
    return tuple(
        f"{resource}:{','.join(sorted(actions))}" if actions else resource
        for resource, actions in sorted(merged.items())
    )
