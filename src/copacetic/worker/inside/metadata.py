# SPDX-License-Identifier: Apache-2.0
"""
What a file has besides its bytes: mode, owner, time, extended attributes; read from disk and written to it.

Where only one user exists (a user namespace with a single id), an owner is kept in an extended attribute, which
overlayfs carries along when it copies a file up.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["OWNER", "Metadata", "Owners", "is_portable"]

OWNER = "user.copacetic.owner"
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_UNSUPPORTED = {errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.EACCES}


def is_portable(name: str) -> bool:
    """
    Tell whether an extended attribute belongs to an image.

    overlayfs' own would make it show files of other places; labels and signatures belong to a machine.
    """
    if name.startswith("user."):
        return name != OWNER and not name.startswith("user.overlay.")
    return name == "security.capability" or name in _ACLS


@dataclass(slots=True)
class Metadata:
    """`mtime` is in nanoseconds; None leaves the clock's."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int | None = None
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


class Owners:
    """How owners and attributes are read and written on this disk."""

    def __init__(self, *, single: bool) -> None:
        self.single = single

    def read(self, layer: int, path: str, info: os.stat_result) -> Metadata:
        """Return what there is to know about a path in an open directory."""
        xattrs, uid, gid = {}, info.st_uid, info.st_gid
        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            xattrs = self.xattrs(layer, path)
            recorded = xattrs.pop(OWNER, b"") if self.single else b""
            if recorded:
                uid, gid = parse_owner(recorded)
        portable = {name: value for name, value in xattrs.items() if is_portable(name)}
        return Metadata(stat.S_IMODE(info.st_mode), uid, gid, info.st_mtime_ns, portable)

    def xattrs(self, layer: int, path: str) -> dict[str, bytes]:
        """Return all extended attributes of a file or directory in an open directory."""
        handle = os.open(path or ".", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=layer)
        try:
            return {name: os.getxattr(handle, name) for name in os.listxattr(handle)}
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return {}
            raise
        finally:
            os.close(handle)

    def write(self, handle: int, meta: Metadata) -> None:
        """Give a new file or directory, root's until now, its owner, mode, attributes and time, in this order."""
        if (meta.uid, meta.gid) != (0, 0):
            if self.single:
                os.setxattr(handle, OWNER, b"%d:%d" % (meta.uid, meta.gid))
            else:
                os.chown(handle, meta.uid, meta.gid)
        os.chmod(handle, meta.mode)
        for name, value in meta.xattrs.items():
            if is_portable(name):
                _set_xattr(handle, name, value)
        if meta.mtime is not None:
            os.utime(handle, ns=(meta.mtime, meta.mtime))

    def write_link(self, layer: int, path: str, meta: Metadata) -> None:
        """The same for what can't be opened: a link's owner, a pipe's owner and mode, and the time."""
        if not self.single and (meta.uid, meta.gid) != (0, 0):
            os.chown(path, meta.uid, meta.gid, dir_fd=layer, follow_symlinks=False)
        if meta.mtime is not None:
            os.utime(path, ns=(meta.mtime, meta.mtime), dir_fd=layer, follow_symlinks=False)


def parse_owner(value: bytes) -> tuple[int, int]:
    """Read a recorded owner; the sandbox could have written anything."""
    uid, _, gid = value.partition(b":")
    if not (uid.isdigit() and gid.isdigit() and len(value) <= 21):
        return 0, 0
    return int(uid), int(gid)


def _set_xattr(handle: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(handle, name, value)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
