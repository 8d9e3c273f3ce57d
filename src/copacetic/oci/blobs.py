# SPDX-License-Identifier: Apache-2.0
"""
Blobs in local files: windows to read them through, and checked copies.

Layouts and archives share this. A copy is complete and has its descriptor's digest and size, or it is an error.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from copacetic.errors import ImageError, IntegrityError, NotFoundError, StorageError, storage_errors
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.transport import ByteStream

CHUNK = 1 << 20
_HINTS = {
    0: "check the path, and the disk that it is on",
    errno.ENOSPC: "free some space on that disk, or choose another place",
    errno.ENOENT: "make the folder first",
    errno.EACCES: "choose a place that you may write to",
    errno.EROFS: "choose a place that you may write to",
}


def disk_errors(what: str) -> AbstractContextManager[None]:
    """As `storage_errors`, for places that the user chose."""
    return storage_errors(what, hints=_HINTS)


class BlobWindow:
    """A part of an open file, read from its beginning to its end; several may share the file."""

    def __init__(self, handle: int, offset: int, size: int, where: str) -> None:
        self._handle = handle
        self._at = offset
        self._end = offset + size
        self._where = where

    def read(self, size: int, /) -> bytes:
        wanted = min(size, self._end - self._at)
        if wanted <= 0:
            return b""
        with disk_errors(f"can't read {self._where}"):
            data = os.pread(self._handle, wanted, self._at)
        if not data:
            raise IntegrityError(f"{self._where} ends {self._end - self._at} bytes early")
        self._at += len(data)
        return data


class Hashing:
    """Passes a stream through, and keeps its digest and size."""

    def __init__(self, stream: ByteStream, algorithm: str = "sha256") -> None:
        self._stream = stream
        self._state = hashlib.new(algorithm)
        self.size = 0

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._state.update(data)
        self.size += len(data)
        return data

    @property
    def encoded(self) -> str:
        """The digest of what was read so far, in lower-case hexadecimal."""
        return self._state.hexdigest()

    def check(self, descriptor: Descriptor, where: str) -> None:
        """Raise `IntegrityError` unless exactly the descriptor's bytes were read."""
        if self.size != descriptor.size:
            message = f"{where}: {descriptor.digest} has {self.size} bytes, not {descriptor.size}"
            raise IntegrityError(message)
        if self.encoded != descriptor.digest.encoded:
            actual = f"{descriptor.digest.algorithm}:{self.encoded}"
            raise IntegrityError(f"{where}: {descriptor.digest} has the digest {actual}")


def copy_checked(stream: ByteStream, write: Callable[[bytes], object], descriptor: Descriptor, *, where: str) -> None:
    """Copy a whole blob; raises `IntegrityError`, before more than its size is written, when it is another one."""
    hashing = Hashing(stream, descriptor.digest.algorithm)
    while data := hashing.read(CHUNK):
        if hashing.size > descriptor.size:
            raise IntegrityError(f"{where}: {descriptor.digest} has more than {descriptor.size} bytes")
        write(data)
    hashing.check(descriptor, where)


def read_whole(stream: ByteStream, *, limit: int, where: str) -> bytes:
    """Read a small document; raises `ImageError` when it has more than `limit` bytes."""
    data = bytearray()
    while part := stream.read(min(CHUNK, limit + 1 - len(data))):
        data += part
        if len(data) > limit:
            raise ImageError(f"{where} has more than {limit} bytes")
    return bytes(data)


@contextmanager
def open_regular(path: Path, *, missing: str) -> Iterator[tuple[int, int]]:
    """
    Open a local file and yield its handle and its size.

    Raises `NotFoundError` with the message `missing` when it is not there. Pipes and devices are refused: a
    layout from elsewhere must not make a read wait forever.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(missing, hint="check the path, and that it was written completely") from error
    except OSError as error:
        raise StorageError(f"can't open {path}: {error.strerror}") from error
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise ImageError(f"{path} is not a regular file")
        yield handle, info.st_size
    finally:
        os.close(handle)


def create_beside(target: Path) -> tuple[int, Path]:
    """Create a temporary file that can be renamed to `target`, with the permissions that the user's umask gives."""
    path = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.copa-tmp")
    with disk_errors(f"can't write {target}"):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path


def write_all(handle: int, data: bytes, offset: int, *, where: str) -> None:
    """Write at a position; the file's own position stays."""
    view = memoryview(data)
    with disk_errors(f"can't write {where}"):
        while view:
            written = os.pwrite(handle, view, offset)
            view = view[written:]
            offset += written
