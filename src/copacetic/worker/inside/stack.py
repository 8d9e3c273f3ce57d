# SPDX-License-Identifier: Apache-2.0
"""
Layer directories on top of each other, seen as one tree, without mounting anything.

A layer directory is as overlayfs has it: a character device 0:0 hides what is below. Unlike there, no directory is
opaque: what hides a directory's content is one whiteout for each name. Layers are open directories, so that a
confined process can still look into those outside of its root. Nothing may change them meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Literal

from copacetic.errors import ImageError
from copacetic.oci.links import resolve
from copacetic.worker.inside.refusal import RefusalError

__all__ = ["PATH_LIMIT", "Found", "Stack", "is_whiteout", "open_layers", "parent_of", "split_path"]

Kind = Literal["directory", "whiteout", "other"]
Found = tuple[int, os.stat_result]
"""An open layer directory, and what is in it."""
PATH_LIMIT = 4000
"""Bytes of a path: what Linux can still open below a folder of ours."""


def open_layers(paths: Sequence[str]) -> tuple[int, ...]:
    """Open layer directories, in their order."""
    return tuple(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in paths)


def is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def split_path(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def parent_of(path: str) -> str:
    return path.rpartition("/")[0]


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def lstat_at(layer: int, path: str) -> os.stat_result | None:
    """Look at a path whose parents are directories; None when it isn't there."""
    try:
        return os.stat(path or ".", dir_fd=layer, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise RefusalError("image", f"a path of {len(os.fsencode(path))} bytes: {path[:100]!r}…") from error
        raise


def list_at(layer: int, path: str) -> list[tuple[str, Kind]]:
    """Return the names in a directory, and of what kind each is; a link at the path's end is not followed."""
    handle = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=layer)
    try:
        with os.scandir(handle) as entries:
            return [(entry.name, _kind(entry)) for entry in entries]
    finally:
        os.close(handle)


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    if entry.is_symlink() or entry.is_file(follow_symlinks=False):
        return "other"
    return "whiteout" if is_whiteout(entry.stat(follow_symlinks=False)) else "other"


class Stack:
    """Paths are relative to the root, canonical unless said otherwise; "" is the root."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self._contributors: dict[str, tuple[int, ...]] = {"": tuple(reversed(self.layers))}

    def find(self, path: str) -> tuple[int, os.stat_result] | None:
        """Return the layer that shows a path, and its entry there, links unfollowed."""
        if not path:
            return (self.layers[-1], os.stat(".", dir_fd=self.layers[-1])) if self.layers else None
        for layer in self.contributors(parent_of(path)):
            info = lstat_at(layer, path)
            if info is not None:
                return None if is_whiteout(info) else (layer, info)
        return None

    def contributors(self, path: str) -> tuple[int, ...]:
        """Return the layers in which a directory is, those that are merged into it, the uppermost first."""
        known = self._contributors
        missing = [path] if path not in known else []
        while missing and (parent := parent_of(missing[-1])) not in known:
            missing.append(parent)
        for folder in reversed(missing):
            found: list[int] = []
            for layer in known[parent_of(folder)]:
                info = lstat_at(layer, folder)
                if info is None:
                    continue
                if not stat.S_ISDIR(info.st_mode):
                    break
                found.append(layer)
            known[folder] = tuple(found)
        return known[path]

    def names(self, path: str) -> dict[str, int]:
        """Return the names in a directory, each with the layer that shows it; empty when it isn't one."""
        shown: dict[str, int] = {}
        hidden: set[str] = set()
        for layer in self.contributors(path):
            for name, kind in list_at(layer, path):
                if name in shown or name in hidden:
                    continue
                if kind == "whiteout":
                    hidden.add(name)
                else:
                    shown[name] = layer
        return shown

    def walk(self, path: str = "") -> Iterator[tuple[str, int, os.stat_result]]:
        """Yield all that is below a directory in sorted order, links unfollowed."""
        pending = [join(path, name) for name in sorted(self.names(path), reverse=True)]
        while pending:
            current = pending.pop()
            found = self.find(current)
            assert found is not None
            yield current, *found
            if stat.S_ISDIR(found[1].st_mode):
                pending.extend(join(current, name) for name in sorted(self.names(current), reverse=True))

    def resolve(self, path: str, *, follow: bool = True) -> str:
        """
        Make any path canonical, following links inside the root; what doesn't exist is appended as it is.

        `follow` concerns the last component. Raises `RefusalError` on a loop.
        """
        try:
            return resolve(path, self._target, follow=follow)
        except ImageError as error:
            raise RefusalError("image", str(error)) from error

    def _target(self, path: str) -> str | None:
        found = self.find(path)
        if found is None or not stat.S_ISLNK(found[1].st_mode):
            return None
        return os.readlink(path, dir_fd=found[0])
