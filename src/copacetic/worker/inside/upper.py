# SPDX-License-Identifier: Apache-2.0
"""
From what overlayfs leaves in an upper directory to a layer of ours.

overlayfs marks every directory as opaque that it makes where nothing is or was: put onto another base, it would hide
what is there. What such a directory really hides gets a whiteout each. What only was there to be mounted on goes.
"""

from __future__ import annotations

import errno
import os
import stat

from copacetic.worker.inside.stack import Stack, is_whiteout, join, lstat_at, scan_at

__all__ = ["tidy_upper"]


def tidy_upper(upper: str, *, below: Stack, stubs: int, attribute: str) -> None:
    """`below` are the real layers, `stubs` the directory that was mounted above them; `attribute` marks opaqueness."""
    layer = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _tidy(layer, "", below, stubs, attribute, opaque=False)
    finally:
        os.close(layer)


def _tidy(layer: int, path: str, below: Stack, stubs: int, attribute: str, *, opaque: bool) -> None:
    """Go through one directory; with `opaque`, it hides what is below it."""
    pending = [(path, opaque)]
    visited: list[str] = []
    while pending:
        folder, hides = pending.pop()
        visited.append(folder)
        hides = _take_mark(layer, folder, attribute) or hides
        own: set[str] = set()
        for entry in list(scan_at(layer, folder)):
            own.add(entry.name)
            inner = join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                pending.append((inner, hides))
            elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                _drop_vain_whiteout(layer, inner, below)
        if hides:
            for name in below.names(folder):
                if name not in own:
                    os.mknod(join(folder, name), stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=layer)
    for folder in reversed(visited):
        if folder and below.find(folder) is None and lstat_at(stubs, folder) is not None:
            try:
                os.rmdir(folder, dir_fd=layer)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise


def _take_mark(layer: int, folder: str, attribute: str) -> bool:
    handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=layer)
    try:
        marked = os.getxattr(handle, attribute) == b"y"
        os.removexattr(handle, attribute)
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise
        return False
    else:
        return marked
    finally:
        os.close(handle)


def _drop_vain_whiteout(layer: int, path: str, below: Stack) -> None:
    info = lstat_at(layer, path)
    if info is not None and is_whiteout(info) and below.find(path) is None:
        os.unlink(path, dir_fd=layer)
