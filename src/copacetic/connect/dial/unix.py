# SPDX-License-Identifier: Apache-2.0
"""`unix://PATH`: a socket of this machine."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from pathlib import Path

from copacetic.connect.address import UnixAddress
from copacetic.connect.stream import SocketStream
from copacetic.errors import DaemonUnreachableError

__all__ = ["connect_unix"]


def connect_unix(address: UnixAddress, *, name: str, seconds: float) -> SocketStream:
    """Raises `DaemonUnreachableError`; for a refused permission the hint says who has it, and how to get it."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(seconds)
        connected.connect(address.path)
        connected.settimeout(None)
    except OSError as error:
        connected.close()
        what, hint = _diagnose(Path(address.path), error, seconds)
        raise DaemonUnreachableError(f"{name}: {what}", hint=hint) from error
    except BaseException:
        connected.close()
        raise
    return SocketStream(connected)


def _diagnose(path: Path, error: OSError, seconds: float) -> tuple[str, str | None]:
    if isinstance(error, TimeoutError):
        return f"{path} accepts no connection within {seconds:g} s", None
    if error.errno in {errno.EACCES, errno.EPERM}:
        return _diagnose_permission(path)
    if error.errno == errno.ENOENT:
        return f"there is no {path}", "is it installed and running? or name another one"
    if error.errno == errno.ECONNREFUSED:
        if _is_socket(path):
            return f"nobody listens on {path}; its server has ended", "start it again"
        return f"{path} is not a socket", None
    if error.errno in {errno.ENOTSOCK, errno.EPROTOTYPE}:
        return f"{path} is not a socket that streams", None
    return f"{path}: {error.strerror or error}", None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _diagnose_permission(path: Path) -> tuple[str, str]:
    try:
        status = path.stat()
    except OSError:
        return f"no permission to reach {path}", "run as a user who may enter its directory"
    group = _group_name(status.st_gid)
    if status.st_gid == 0 or not status.st_mode & stat.S_IWGRP:
        hint = f"run as {_user_name(status.st_uid)}, or let its server open the socket for a group of yours"
        return f"no permission for {path}", hint
    if status.st_gid in os.getgroups():
        return f"no permission for {path}", "run as a user who may enter its directory"
    hint = f"join the group {group}: `sudo usermod -aG {group} $USER`, and log in again"
    return f"no permission for {path}, which is for the group {group}", hint


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
