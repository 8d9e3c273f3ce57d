# SPDX-License-Identifier: Apache-2.0
"""
From what overlayfs leaves in an upper directory to a layer of ours.

overlayfs marks every directory as opaque that it makes where nothing is or was: put onto another base, it would hide
what is there. What such a directory really hides gets a whiteout each. What only was there to be mounted on goes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from copacetic.worker.inside.metadata import OWNER, Owners
from copacetic.worker.inside.samebytes import same_bytes
from copacetic.worker.inside.stack import Found, Stack, join, list_at, lstat_at, parent_of

__all__ = ["tidy_upper"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def tidy_upper(upper: str, *, below: Stack, stubs: int, attribute: str, owners: Owners) -> None:
    """`below` are the real layers, `stubs` the directory that was mounted above them; `attribute` marks opaqueness."""
    layer = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Upper(layer, below, stubs, attribute, owners).tidy()
    finally:
        os.close(layer)


class _Upper:
    def __init__(self, layer: int, below: Stack, stubs: int, attribute: str, owners: Owners) -> None:
        self._layer = layer
        self._below = below
        self._stubs = stubs
        self._attribute = attribute
        self._origin = attribute.replace(".opaque", ".origin")
        self._owners = owners

    def tidy(self) -> None:
        pending = [("", False)]
        visited: list[str] = []
        while pending:
            folder, hides = pending.pop()
            visited.append(folder)
            hides = self._take_mark(folder) or hides
            with self._keeping_time(folder):
                pending.extend((path, hides) for path in self._tidy_names(folder, hides=hides))
        for folder in reversed(visited):
            self._remove_stub(folder)

    def _tidy_names(self, folder: str, *, hides: bool) -> list[str]:
        """Do one directory, and return those in it; with `hides`, nothing of what is below it is seen."""
        own = dict(list_at(self._layer, folder))
        for name, kind in own.items():
            path = join(folder, name)
            if kind == "whiteout":
                if self._below.find(path) is None:
                    os.unlink(path, dir_fd=self._layer)
            elif kind == "other" and not hides:
                self._compare(path)
        if hides:
            for name in self._below.names(folder):
                if name not in own:
                    mode = stat.S_IFCHR | 0o600
                    os.mknod(join(folder, name), mode, os.makedev(0, 0), dir_fd=self._layer)
        return [join(folder, name) for name, kind in own.items() if kind == "directory"]

    def _compare(self, path: str) -> None:
        """Look at a file that is below, too: it may be the same, or have its owner from there."""
        info = lstat_at(self._layer, path)
        found = self._below.find(path)
        if info is None or found is None or not (stat.S_ISREG(info.st_mode) and stat.S_ISREG(found[1].st_mode)):
            return
        if self._owners.single:
            self._inherit_owner(path, found)
        if self._is_same(path, info, found):
            os.unlink(path, dir_fd=self._layer)

    def _is_same(self, path: str, info: os.stat_result, found: Found) -> bool:
        """
        Overlayfs copies up whatever is opened to be written, written or not, and marks where it came from.

        A file that was written anew stays, with whatever content: it is what the program has brought.
        """
        before = found[1]
        if (info.st_size, info.st_mtime_ns, info.st_nlink) != (before.st_size, before.st_mtime_ns, 1):
            return False
        if self._origin not in self._owners.xattrs(self._layer, path):
            return False
        mine = self._owners.read(self._layer, path, info)
        return mine == self._owners.read(found[0], path, before) and same_bytes(path, found, (self._layer, info))

    def _inherit_owner(self, path: str, found: Found) -> None:
        """
        Give a file that took another one's place that one's owner, if it has none.

        A program that replaces a file gives the new one what it has seen of the old one, and that is always root.
        """
        if OWNER in self._owners.xattrs(self._layer, path):
            return
        recorded = self._owners.xattrs(found[0], path).get(OWNER)
        if recorded is not None:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._layer)
            os.setxattr(handle, OWNER, recorded)
            os.close(handle)

    def _take_mark(self, folder: str) -> bool:
        handle = os.open(folder or ".", _DIRECTORY, dir_fd=self._layer)
        try:
            marked = os.getxattr(handle, self._attribute) == b"y"
            os.removexattr(handle, self._attribute)
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
                raise
            return False
        else:
            return marked
        finally:
            os.close(handle)

    def _remove_stub(self, folder: str) -> None:
        if not folder or self._below.find(folder) is not None or lstat_at(self._stubs, folder) is None:
            return
        with self._keeping_time(parent_of(folder)):
            try:
                os.rmdir(folder, dir_fd=self._layer)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise

    @contextlib.contextmanager
    def _keeping_time(self, folder: str) -> Iterator[None]:
        """What is tidied up in a directory is no change of it."""
        info = os.stat(folder or ".", dir_fd=self._layer, follow_symlinks=False)
        yield
        if os.stat(folder or ".", dir_fd=self._layer, follow_symlinks=False).st_mtime_ns != info.st_mtime_ns:
            times = (info.st_atime_ns, info.st_mtime_ns)
            os.utime(folder or ".", ns=times, dir_fd=self._layer, follow_symlinks=False)
