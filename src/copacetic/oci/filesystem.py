# SPDX-License-Identifier: Apache-2.0
"""
The seam through which everything looks into an image: a read-only tree, unpacked nowhere.

Paths are strings relative to the image's root without a leading slash (`usr/lib/os-release`); `""` is the root.
Bytes that are not UTF-8 are surrogate-escaped. A leading slash, `.` and `..` are accepted in arguments and in
links, and never lead outside the root: as in a chroot, `..` of the root is the root.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable


class FileType(Enum):
    """The kinds of tar entries that a filesystem holds; hard links are resolved to what they name."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"


TAR_TYPES: Mapping[str, FileType] = {
    "0": FileType.FILE,
    "2": FileType.SYMLINK,
    "3": FileType.CHARACTER_DEVICE,
    "4": FileType.BLOCK_DEVICE,
    "5": FileType.DIRECTORY,
    "6": FileType.FIFO,
}
"""By the type that tar writes for them."""
_KINDS = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFIFO: FileType.FIFO,
}


def kind_of(mode: int) -> FileType | None:
    """Return what the kernel's mode bits say; None for a socket, which no layer holds."""
    return _KINDS.get(stat.S_IFMT(mode))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that a layer says about a path, except a file's bytes."""

    type: FileType
    mode: int
    """Permission bits with setuid, setgid and sticky (07777)."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    """Whole seconds."""
    target: str = ""
    """A symbolic link's target, verbatim."""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    sha256: str = ""
    """Of a file's content, lower-case hexadecimal; empty for other types."""
    link_group: str = ""
    """
    For a file with several names: the canonical path that its other names link to; names with the same non-empty
    group share one inode.
    """
    implicit: bool = False
    """A directory that no layer describes; it exists because something in it does."""


def is_equal(lower: Entry, entry: Entry) -> bool:
    """Tell whether two entries are equal in all that a package decides; when they were written doesn't count."""
    return (
        lower.type is entry.type
        and (lower.mode == entry.mode or entry.type is FileType.SYMLINK)
        and lower.uid == entry.uid
        and lower.gid == entry.gid
        and lower.sha256 == entry.sha256
        and lower.target == entry.target
        and lower.device == entry.device
        and dict(lower.xattrs) == dict(entry.xattrs)
        and not lower.implicit
    )


class ImageFilesystem(Protocol):
    """A read-only view of an image's files. Methods raise `ImageError` for a broken image, never `OSError`."""

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        """Return the entry, or None. `follow` concerns the last component; those before it are always followed."""
        ...

    def resolve(self, path: str, *, follow: bool = True) -> str:
        """
        Return the canonical path after following links, as far as it exists; components that don't exist are
        appended as they are. With `follow=False` the last component is not followed.

        Raises `ImageError` on a loop of more than 40 links.
        """
        ...

    def read(self, path: str, *, limit: int) -> bytes:
        """
        Return a file's bytes, following links.

        Raises `FileNotFoundError` when it is not there or not a regular file, and `ImageError` when it has more
        than `limit` bytes.
        """
        ...

    def iterdir(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted, following links; empty when it isn't one."""
        ...

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        """Yield every path below in sorted order with its entry, links unfollowed."""
        ...

    def layer_of(self, path: str) -> int | None:
        """Return the position of the layer whose entry is seen at a canonical path, 0 being the lowest."""
        ...


@runtime_checkable
class LayeredView(Protocol):
    """What a view that knows the image's layers can tell besides."""

    def hidden_versions(self, path: str, *, limit: int) -> tuple[bytes, ...]:
        """
        Return what regular files at exactly this path have in layers below the one that is seen there (in all, when
        nothing is), the lowest first; nothing is followed, and whiteouts in between don't count.

        Raises `ImageError` when one has more than `limit` bytes.
        """
        ...


def hidden_versions(fs: ImageFilesystem, path: str, *, limit: int) -> tuple[bytes, ...]:
    """Ask a view for the older versions of a file; one that knows no layers has none."""
    return fs.hidden_versions(path, limit=limit) if isinstance(fs, LayeredView) else ()
