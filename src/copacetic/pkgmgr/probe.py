# SPDX-License-Identifier: Apache-2.0
"""
What an image has, found in its index: programs that can be started, directories that can be mounted on.

A link is followed inside the image's root, as the kernel will follow it in the sandbox; what it can't lead to
there isn't there.
"""

from __future__ import annotations

from collections.abc import Iterable

from copacetic.errors import UnsupportedImageError
from copacetic.oci.filesystem import FileType, ImageFilesystem

__all__ = ["has_program", "refuse_links_out", "require_directory", "require_programs"]

HINT = "packages whose scripts need no execution can still be patched: --strategy unpack"


def has_program(fs: ImageFilesystem, path: str) -> bool:
    """Tell whether there is something at a path that can be executed. Raises `ImageError` on a loop of links."""
    return not _why_not(fs, path)


def require_programs(fs: ImageFilesystem, paths: Iterable[str]) -> None:
    """Raise `UnsupportedImageError` for the first program that can't be started, saying why."""
    for path in paths:
        reason = _why_not(fs, path)
        if reason:
            raise UnsupportedImageError(f"the image can't run its package manager: {reason}", hint=HINT)


def _why_not(fs: ImageFilesystem, path: str) -> str:
    entry = fs.lookup(path)
    if entry is None:
        resolved = fs.resolve(path)
        is_link = fs.lookup(path, follow=False) is not None
        return f"/{path} is a link to /{resolved}, which is not there" if is_link else f"it has no /{path}"
    if entry.type is not FileType.FILE:
        return f"/{path} is a {entry.type.value}"
    if not entry.mode & 0o111 or not entry.size:
        return f"/{path} is not executable" if entry.size else f"/{path} is empty"
    return ""


def require_directory(fs: ImageFilesystem, path: str) -> None:
    """
    Raise `UnsupportedImageError` unless something can be mounted in or on a directory of the root: it is one, or it
    isn't there yet. A link would put the mount wherever the image wants it.
    """
    entry = fs.lookup(path, follow=False)
    if entry is not None and entry.type is not FileType.DIRECTORY:
        raise UnsupportedImageError(
            f"/{path} is a {entry.type.value} in the image, where a directory belongs", hint=HINT
        )


def refuse_links_out(fs: ImageFilesystem, what: str, paths: Iterable[str]) -> None:
    """
    Raise `UnsupportedImageError` when a directory above one of the paths is a link that leaves the image's root: a
    program that works on that root from the outside would follow it into its own. `what` needs the paths.
    """
    seen: set[str] = set()
    for path in paths:
        while path := path.rpartition("/")[0]:
            if path in seen:
                break
            seen.add(path)
            entry = fs.lookup(path, follow=False)
            if entry is not None and entry.type is FileType.SYMLINK and _leaves(path, entry.target):
                raise UnsupportedImageError(
                    f"{what}: /{path} is a link to {entry.target}, which would lead the tooling image's package "
                    "manager astray",
                    hint="--strategy unpack resolves links inside the image",
                )


def _leaves(path: str, target: str) -> bool:
    if target.startswith("/"):
        return True
    depth = path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in {"", "."}
        if depth < 0:
            return True
    return False
