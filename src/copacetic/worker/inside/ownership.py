# SPDX-License-Identifier: Apache-2.0
"""
Owners where only one user exists: changes of owners are not made but written down, in an extended attribute.

The kernel asks this process about each of those system calls (seccomp_unotify(2)). A program could mislead it about
the path meanwhile; what it gets is an attribute on one of its own files, which it could have set itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

from copacetic.worker.inside.metadata import OWNER, parse_owner
from copacetic.worker.inside.seccomp import owner_calls

__all__ = ["OwnerKeeper"]

_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
_REQUEST = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_UNCHANGED = 0xFFFFFFFF
_UNCHANGED_16 = 0xFFFF
_PATH = 4096
_CAPABILITY = "security.capability"


class OwnerKeeper:
    """Answers what comes through a listener. Its process is in the sandbox, above the program, with all its rights."""

    def __init__(self, listener: int) -> None:
        self.listener = listener
        self._calls = owner_calls()

    def answer(self) -> None:
        """Answer one request; the program may be gone before."""
        buffer = ctypes.create_string_buffer(_REQUEST.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, buffer)
        except OSError:
            return
        number, pid, _flags, call, arch, _pointer, *arguments = _REQUEST.unpack(buffer.raw)
        try:
            self._record(pid, self._calls.get((arch, call), ""), arguments, number)
            error = 0
        except OSError as failure:
            error = failure.errno or errno.EPERM
        try:
            fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(number, 0, -error, 0))
        except OSError:
            return

    def _record(self, pid: int, name: str, arguments: list[int], number: int) -> None:
        handle, uid, gid = self._open(pid, name, arguments)
        try:
            # Only now is it sure that the pid still was the program's when its files were looked at.
            fcntl.ioctl(self.listener, _IS_VALID, struct.pack("=Q", number))
            _write_down(f"/proc/self/fd/{handle}", _take(uid, name), _take(gid, name))
        finally:
            os.close(handle)

    def _open(self, pid: int, name: str, arguments: list[int]) -> tuple[int, int, int]:
        if name.startswith("fchownat"):
            folder, pointer, uid, gid, flags = arguments[:5]
            follow = not flags & _AT_SYMLINK_NOFOLLOW
            path = _read_text(pid, pointer)
            if not path and not flags & _AT_EMPTY_PATH:
                raise OSError(errno.ENOENT, "")
            return _open_path(pid, ctypes.c_int(folder & 0xFFFFFFFF).value, path, follow=follow), uid, gid
        if name.startswith("fchown"):
            return os.open(f"/proc/{pid}/fd/{arguments[0]}", os.O_PATH | os.O_CLOEXEC), arguments[1], arguments[2]
        path = _read_text(pid, arguments[0])
        if not path:
            raise OSError(errno.ENOENT, "")
        return _open_path(pid, _AT_FDCWD, path, follow=not name.startswith("l")), arguments[1], arguments[2]


def _take(value: int, name: str) -> int | None:
    """The 16-bit calls of old 32-bit programs have another word for "as it is"."""
    value &= 0xFFFFFFFF
    return None if value == _UNCHANGED or (name.endswith("16") and value == _UNCHANGED_16) else value


def _read_text(pid: int, pointer: int) -> bytes:
    data = bytearray()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while len(data) < _PATH:
            # Not over the end of a page: the next one may not be there.
            memory.seek(pointer + len(data))
            part = memory.read(min(_PATH - len(data), 4096 - (pointer + len(data)) % 4096))
            if not part:
                break
            data += part
            if b"\0" in part:
                return bytes(data[: data.index(b"\0")])
    raise OSError(errno.ENAMETOOLONG, "")


def _open_path(pid: int, folder: int, path: bytes, *, follow: bool) -> int:
    base = "root" if path.startswith(b"/") else "cwd" if folder == _AT_FDCWD else f"fd/{folder}"
    flags = os.O_PATH | os.O_CLOEXEC
    start = os.open(f"/proc/{pid}/{base}", flags)
    try:
        relative = path.lstrip(b"/")
        if not relative:
            return os.dup(start)
        return os.open(relative, flags | (0 if follow else os.O_NOFOLLOW), dir_fd=start)
    finally:
        os.close(start)


def _write_down(path: str, uid: int | None, gid: int | None) -> None:
    """What can't have such an attribute (a link, a pipe) stays root's."""
    info = os.stat(path)
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        return
    try:
        present = parse_owner(os.getxattr(path, OWNER))
    except OSError as error:
        if error.errno != errno.ENODATA:
            return  # not a filesystem that has them, as /proc
        present = (0, 0)
    wanted = (present[0] if uid is None else uid, present[1] if gid is None else gid)
    if wanted != present:
        os.setxattr(path, OWNER, b"%d:%d" % wanted)
    if stat.S_ISREG(info.st_mode):
        # As the kernel has it: a file with another owner gives nobody any rights.
        lost = stat.S_ISUID | (stat.S_ISGID if info.st_mode & stat.S_IXGRP else 0)
        if info.st_mode & lost:
            os.chmod(path, stat.S_IMODE(info.st_mode) & ~lost)
        if _CAPABILITY in os.listxattr(path):
            os.removexattr(path, _CAPABILITY)
