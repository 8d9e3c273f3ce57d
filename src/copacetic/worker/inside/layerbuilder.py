# SPDX-License-Identifier: Apache-2.0
"""
One new layer directory, written as if what is below were there.

Everything that makes layers goes through here: unpacking an archive, file operations, differences, copies of whole
trees. A file is created only below directories that this builder itself has made in its layer, so that no link of an
image leads a write astray. Directories get their attributes at the end: until then all of them are root's.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

from copacetic.worker.inside.metadata import Metadata, Owners
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.remove import remove_at
from copacetic.worker.inside.stack import PATH_LIMIT, Stack, is_whiteout, join, lstat_at, parent_of, scan_at

__all__ = ["LayerBuilder"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY = 1 << 24


class LayerBuilder:
    """`layer` is an open, empty directory. Paths are relative and without `..`; `finish` completes the layer."""

    def __init__(self, layer: int, below: Stack, owners: Owners) -> None:
        self._layer = layer
        self._below = below
        self._owners = owners
        self._view = Stack((*below.layers, layer))
        self._directories: dict[str, Metadata] = {}
        root = below.find("")
        self._directories[""] = owners.read(*_at(root, "")) if root is not None else Metadata(0o755)

    @property
    def view(self) -> Stack:
        """What is below with this layer on top, as far as it is written; made anew, for nothing is remembered."""
        return Stack(self._view.layers)

    def directory(self, path: str) -> str:
        """
        Make sure that a path is a directory of this layer, and return where: links below are followed.

        What is below keeps its attributes; what is nowhere, or no directory, becomes one of root's.
        """
        if path in self._directories:
            return path
        canonical = self.view.resolve(path)
        at = ""
        for part in canonical.split("/") if canonical else ():
            at = join(at, part)
            if at not in self._directories:
                found = self._below.find(at) if lstat_at(self._layer, at) is None else None
                inherited = found is not None and stat.S_ISDIR(found[1].st_mode)
                self._make(at, self._owners.read(*_at(found, at)) if inherited else Metadata(0o755))
        return canonical

    def make_directory(self, path: str, meta: Metadata) -> None:
        """The parent is a directory of this layer. An existing directory only gets other attributes."""
        self._make(path, meta)

    def make_file(self, path: str, meta: Metadata, pieces: Iterable[bytes | memoryview]) -> None:
        handle = self._create(path)
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(handle, view) :]
            self._owners.write(handle, meta)
        finally:
            os.close(handle)

    def copy_file(self, path: str, meta: Metadata, layer: int, source: str) -> None:
        """Copy the bytes of a regular file in an open directory; its size is what it is."""
        reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=layer)
        try:
            writer = self._create(path)
            try:
                _copy_bytes(reader, writer)
                self._owners.write(writer, meta)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def make_link(self, path: str, meta: Metadata, target: str) -> None:
        self._place(path, lambda: os.symlink(target, path, dir_fd=self._layer))
        self._owners.write_link(self._layer, path, meta)

    def make_pipe(self, path: str, meta: Metadata) -> None:
        self._place(path, lambda: os.mkfifo(path, meta.mode, dir_fd=self._layer))
        self._owners.write_link(self._layer, path, meta)
        os.chmod(path, meta.mode, dir_fd=self._layer)

    def make_hard_link(self, path: str, first: str) -> None:
        """Give a file another name; one that is below comes up into this layer. Raises `RefusalError` without one."""
        target = self.view.resolve(first, follow=False)
        info = lstat_at(self._layer, target)
        if info is None or is_whiteout(info):
            found = None if info is not None else self._below.find(target)
            if found is None or stat.S_ISDIR(found[1].st_mode):
                raise RefusalError("corrupt", f"{path[:200]!r} is a hard link to {first[:200]!r}, which is not there")
            self.copy(target, *found, source=target)
        elif stat.S_ISDIR(info.st_mode):
            raise RefusalError("corrupt", f"{path[:200]!r} is a hard link to the directory {first[:200]!r}")
        if target == path:
            return
        self._place(path, lambda: os.link(target, path, src_dir_fd=self._layer, dst_dir_fd=self._layer,
                                           follow_symlinks=False))  # fmt: skip

    def copy(self, path: str, layer: int, info: os.stat_result, *, source: str) -> bool:
        """Copy one entry of an open directory, without what is in it; tell whether it is of a kind that images have."""
        meta = self._owners.read(layer, source, info)
        if parent_of(path) not in self._directories:
            self.directory(parent_of(path))
        if stat.S_ISREG(info.st_mode):
            self.copy_file(path, meta, layer, source)
        elif stat.S_ISDIR(info.st_mode):
            self._make(path, meta)
        elif stat.S_ISLNK(info.st_mode):
            self.make_link(path, meta, os.readlink(source, dir_fd=layer))
        elif stat.S_ISFIFO(info.st_mode):
            self.make_pipe(path, meta)
        else:
            return False
        return True

    def adopt(self, path: str, layer: int, info: os.stat_result, *, source: str) -> bool:
        """As `copy`, but what isn't a directory is moved here, on the same disk: all its hard links have to come."""
        if stat.S_ISDIR(info.st_mode):
            return self.copy(path, layer, info, source=source)
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) or stat.S_ISFIFO(info.st_mode)):
            return False
        if parent_of(path) not in self._directories:
            self.directory(parent_of(path))
        os.rename(source, path, src_dir_fd=layer, dst_dir_fd=self._layer)
        return True

    def whiteout(self, path: str) -> None:
        """Hide what is below at a path. What this layer itself has there stays, without anything from below in it."""
        info = lstat_at(self._layer, path)
        if info is None:
            self._hide(path)
        elif stat.S_ISDIR(info.st_mode):
            self.opaque(path)

    def opaque(self, path: str) -> None:
        """Hide all that is below in a directory of this layer; what this layer has there stays."""
        own: set[str] = set()
        for entry in list(scan_at(self._layer, path)):
            own.add(entry.name)
            if entry.is_dir(follow_symlinks=False):
                self.opaque(join(path, entry.name))
        for name in self._below.names(path):
            if name not in own:
                self._hide(join(path, name))

    def remove(self, path: str) -> None:
        """Remove what this layer or those below have at a path whose parent is a directory of this layer."""
        self._forget(path)
        remove_at(self._layer, path)
        if self._below.find(path) is not None:
            self._hide(path)

    def finish(self) -> None:
        """Give all directories their attributes, the deepest first."""
        for path, meta in sorted(self._directories.items(), reverse=True):
            handle = os.open(path or ".", _DIRECTORY, dir_fd=self._layer)
            try:
                self._owners.write(handle, meta)
            finally:
                os.close(handle)

    def _make(self, path: str, meta: Metadata) -> None:
        known = path in self._directories
        self._directories[path] = meta
        if not known and self._place(path, lambda: os.mkdir(path, 0o700, dir_fd=self._layer)):
            self.opaque(path)

    def _create(self, path: str) -> int:
        _check_length(path)
        try:
            return os.open(path, _NEW, 0o600, dir_fd=self._layer)
        except FileExistsError:
            self._forget(path)
            remove_at(self._layer, path)
            return os.open(path, _NEW, 0o600, dir_fd=self._layer)

    def _place(self, path: str, make: Callable[[], None]) -> bool:
        """Make something in place of what this layer has there; tell whether that was a whiteout."""
        _check_length(path)
        try:
            make()
        except FileExistsError:
            info = lstat_at(self._layer, path)
            was_hidden = info is not None and is_whiteout(info)
            self._forget(path)
            remove_at(self._layer, path)
            make()
            return was_hidden
        return False

    def _forget(self, path: str) -> None:
        if path in self._directories:
            inside = f"{path}/"
            for known in [p for p in self._directories if p == path or p.startswith(inside)]:
                del self._directories[known]

    def _hide(self, path: str) -> None:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=self._layer)


def _at(found: tuple[int, os.stat_result] | None, path: str) -> tuple[int, str, os.stat_result]:
    assert found is not None
    return found[0], path, found[1]


def _check_length(path: str) -> None:
    size = len(path) if path.isascii() else len(os.fsencode(path))
    if size > PATH_LIMIT:
        raise RefusalError("hostile", f"a path of {size} bytes: {path[:100]!r}…")


def _copy_bytes(reader: int, writer: int) -> None:
    """Let the kernel copy, sharing the blocks where the disk can; by hand across disks and on old kernels."""
    try:
        while os.copy_file_range(reader, writer, _COPY):
            pass
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
            raise
        while part := os.read(reader, 1 << 20):
            view = memoryview(part)
            while view:
                view = view[os.write(writer, view) :]
