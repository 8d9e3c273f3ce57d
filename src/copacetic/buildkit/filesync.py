# SPDX-License-Identifier: Apache-2.0
"""
Directories of the client for `local://NAME`: fsutil's protocol, the sender's side.

First every entry is told, in order and numbered; then the builder asks for the files that it doesn't have. Links are
sent as links and never followed; owners become root, as BuildKit's own client does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Code, Handler, RpcError, ServerCall
from copacetic.buildkit.session import parse
from copacetic.localtree import walk_tree

__all__ = ["serve_directories"]

_STAT, _REQUEST, _DATA, _END, _ERROR = range(5)
"""Types of packets."""
_PIECE = 1 << 17
_MODES = (
    (stat.S_ISDIR, 1 << 31),
    (stat.S_ISLNK, 1 << 27),
    (stat.S_ISFIFO, 1 << 25),
    (stat.S_ISSOCK, 1 << 24),
    (stat.S_ISBLK, 1 << 26),
    (stat.S_ISCHR, 1 << 26 | 1 << 21),
)
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def serve_directories(directories: Mapping[str, Path]) -> Handler:
    """Return the handler of `FileSync.DiffCopy` over directories by name."""

    def handle(call: ServerCall) -> None:
        name = next(iter(_values(call, "dir-name")), "")
        if name not in directories:
            raise RpcError(Code.NOT_FOUND, f"no access allowed to the directory {name!r}")
        if any(_values(call, key) for key in ("include-patterns", "exclude-patterns", "followpaths")):
            raise RpcError(Code.UNIMPLEMENTED, "a directory is sent whole")
        try:
            _send(call, directories[name])
        except OSError as error:
            raise RpcError(Code.UNKNOWN, f"{error.filename or name}: {error.strerror or error}") from error

    return handle


def _values(call: ServerCall, key: str) -> list[str]:
    """Return a metadata key's values, which are escaped when a second key says so."""
    values = list(call.metadata(key))
    return [unquote(value) for value in values] if "1" in call.metadata(f"{key}-encoded") else values


def _send(call: ServerCall, root: Path) -> None:
    packet = schema.session().Packet
    files: list[Path] = []
    for relative, status in walk_tree(root):
        path = root / relative
        files.append(path)
        message = packet(type=_STAT)
        _describe(message.stat, relative, path, status)
        call.send(message.SerializeToString())
    call.send(packet(type=_STAT).SerializeToString())
    while (data := call.receive()) is not None:
        request = parse(packet, data)
        if request.type == _END:
            call.send(packet(type=_END).SerializeToString())
            return
        if request.type == _ERROR:
            raise RpcError(Code.UNKNOWN, request.data.decode("utf-8", "replace"))
        if request.type != _REQUEST or request.id >= len(files):
            raise RpcError(Code.INVALID_ARGUMENT, "the builder asks for what it was not told of")
        _send_file(call, files[request.id], request.id)


def _send_file(call: ServerCall, path: Path, number: int) -> None:
    packet = schema.session().Packet
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RpcError(Code.INVALID_ARGUMENT, f"{path} is no file")
        while piece := os.read(handle, _PIECE):
            call.send(packet(type=_DATA, id=number, data=piece).SerializeToString())
    finally:
        os.close(handle)
    call.send(packet(type=_DATA, id=number).SerializeToString())


def _describe(message: Any, relative: str, path: Path, status: os.stat_result) -> None:
    message.path = os.fsencode(relative)
    mode = stat.S_IMODE(status.st_mode) & 0o777
    mode |= next((bit for test, bit in _MODES if test(status.st_mode)), 0)
    mode |= sum(bit for native, bit in _SPECIAL if status.st_mode & native)
    message.mode = mode
    message.mtime = status.st_mtime_ns
    if stat.S_ISREG(status.st_mode):
        message.size = status.st_size
    elif stat.S_ISLNK(status.st_mode):
        message.linkname = os.fsencode(path.readlink())
        message.mode |= 0o777
