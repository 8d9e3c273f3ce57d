# SPDX-License-Identifier: Apache-2.0
"""
Symbolic links followed inside a root, as a kernel follows them in a chroot.

All who look into an image's tree, or change it, follow links here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

from copacetic.errors import ImageError

__all__ = ["LinkTarget", "resolve", "resolve_from"]

MAX_LINKS = 40
"""As Linux has it."""
_MAX_PATH = 4_096
_MAX_NAMES = 1_024
"""Four times as many as any path of a layer has: each is looked up and remembered."""
_MAX_LENGTH = 16_384
"""Characters of a path and of all links on its way: links can make a path of megabytes from a short name."""
LinkTarget = Callable[[str], str | None]
"""Tells where the link at a canonical path leads, word for word; None where there is no link, or nothing."""


def resolve(path: str, target_of: LinkTarget, *, follow: bool = True) -> str:
    """
    Return the canonical path after following links, as far as it exists; without `follow`, the last component isn't
    followed unless a slash or a dot comes behind it.

    Nothing leads out of the root, whose `..` is the root. What doesn't exist is appended as it is, and `..` takes it
    away again: here a kernel would find nothing. Raises `ImageError` for more than 40 links, very long ones, and a path
    that is longer than any may be.
    """
    return resolve_from("", 0, path, target_of, follow=follow)[0]


def resolve_from(at: str, links: int, path: str, target_of: LinkTarget, *, follow: bool = True) -> tuple[str, int]:
    """As `resolve`, from the canonical directory `at`, to which `links` have led; returns with how many in the end."""
    if len(path) > _MAX_PATH or path.count("/") > _MAX_NAMES:
        raise ImageError(f"the path is too long: {path[:200]}")
    pending = path.split("/")
    pending.reverse()
    length = len(at) + len(path)
    while pending:
        part = pending.pop()
        if part in {"", ".", ".."}:
            at = at.rpartition("/")[0] if part == ".." else at
            continue
        step = f"{at}/{part}" if at else part
        target = target_of(step) if pending or follow else None
        if target is None:
            at = step
            continue
        links += 1
        length += len(target)
        if links > MAX_LINKS or length > _MAX_LENGTH:
            raise ImageError(f"too many levels of symbolic links: {path[:200]}")
        if target.startswith("/"):
            at = ""
        pending.extend(target.split("/")[::-1])
    return at, links
