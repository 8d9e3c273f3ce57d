# SPDX-License-Identifier: Apache-2.0
"""Removing a tree of any depth, following no link. A process in a sandbox can nest deeper than any path reaches."""

from __future__ import annotations

import os
from collections.abc import Sequence

from copacetic.worker.inside.channel import Channel, Message

__all__ = ["remove_at", "remove_tree", "run"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def run(_channel: Channel, request: Message, _fds: Sequence[int]) -> Message:
    """Remove the trees at `paths`."""
    for path in request["paths"]:
        remove_tree(path)
    return {}


def remove_tree(path: str) -> None:
    """Remove whatever is at a path; its parents are trusted. Nothing there is fine."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        parent = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_at(parent, name)
    finally:
        os.close(parent)


def remove_at(parent: int, path: str) -> None:
    """Remove whatever is at a path in an open directory. Nothing there is fine."""
    try:
        os.unlink(path, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    handle = os.open(path, _DIRECTORY, dir_fd=parent)
    _empty(handle)
    os.rmdir(path, dir_fd=parent)


def _empty(handle: int) -> None:
    """
    Remove what is in a directory, and close it.

    Only one directory is open at a time: the way back is `..`, which nothing moves meanwhile.
    """
    names: list[str] = []
    pending = [_remove_files(handle)]
    while True:
        if pending[-1]:
            name = pending[-1].pop()
            inner = os.open(name, _DIRECTORY, dir_fd=handle)
            names.append(name)
            pending.append(_remove_files(inner))
            os.close(handle)
            handle = inner
            continue
        pending.pop()
        if not pending:
            os.close(handle)
            return
        outer = os.open("..", _DIRECTORY, dir_fd=handle)
        os.close(handle)
        handle = outer
        os.rmdir(names.pop(), dir_fd=handle)


def _remove_files(handle: int) -> list[str]:
    """Remove all but the directories, and return those."""
    directories = []
    with os.scandir(handle) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=handle)
    return directories
