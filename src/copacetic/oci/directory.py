# SPDX-License-Identifier: Apache-2.0
"""
A local directory as an image's filesystem, for results that were unpacked and for this machine's own files.

Links are resolved inside the directory, component by component, and nothing outside it is ever opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from copacetic.errors import ImageError
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem, kind_of
from copacetic.oci.links import resolve


class DirectoryFilesystem:
    """`ImageFilesystem` over a directory that nobody changes meanwhile."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[tuple[int, int], str] = {}

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        canonical = self.resolve(path, follow=follow)
        local = self._local(canonical)
        try:
            info = os.lstat(local)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ImageError(f"can't look at {path}: {error.strerror}") from error
        kind = kind_of(info.st_mode)
        if kind is None:
            return None
        group = ""
        if kind is FileType.FILE and info.st_nlink > 1:
            group = self._names.setdefault((info.st_dev, info.st_ino), canonical)
        return Entry(
            type=kind,
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            size=info.st_size if kind is FileType.FILE else 0,
            mtime=int(info.st_mtime),
            target=os.readlink(local) if kind is FileType.SYMLINK else "",
            device=(os.major(info.st_rdev), os.minor(info.st_rdev)) if "device" in kind.value else (0, 0),
            xattrs=_xattrs(local),
            sha256=_digest(local) if kind is FileType.FILE else "",
            link_group=group,
        )

    def resolve(self, path: str, *, follow: bool = True) -> str:
        return resolve(path, self._target, follow=follow)

    def _target(self, canonical: str) -> str | None:
        try:
            return os.readlink(self._local(canonical))
        except OSError:
            return None

    def read(self, path: str, *, limit: int) -> bytes:
        local = self._local(self.resolve(path))
        try:
            handle = os.open(local, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
        except OSError as error:
            raise ImageError(f"can't read {path}: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileNotFoundError(path)
            with open(handle, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(handle)
        if len(data) > limit:
            raise ImageError(f"{path} has more than {limit} bytes")
        return data

    def iterdir(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(self._local(self.resolve(path)))))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise ImageError(f"can't list {path}: {error.strerror}") from error

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        start = self.resolve(path)
        pending = [f"{start}/{name}" if start else name for name in reversed(self.iterdir(start))]
        while pending:
            current = pending.pop()
            entry = self.lookup(current, follow=False)
            if entry is None:
                continue
            yield current, entry
            if entry.type is FileType.DIRECTORY:
                pending.extend(f"{current}/{name}" for name in reversed(self.iterdir(current)))

    def layer_of(self, path: str) -> int | None:
        return 0 if self.lookup(path, follow=False) is not None else None

    def _local(self, canonical: str) -> str:
        return os.path.join(self._root, canonical) if canonical else str(self._root)


def _xattrs(local: str) -> dict[str, bytes]:
    try:
        return {
            name: os.getxattr(local, name, follow_symlinks=False) for name in os.listxattr(local, follow_symlinks=False)
        }
    except OSError:
        return {}


def _digest(local: str) -> str:
    try:
        with open(local, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"can't read {local}: {error.strerror}") from error


_: type[ImageFilesystem] = DirectoryFilesystem
