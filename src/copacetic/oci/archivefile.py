# SPDX-License-Identifier: Apache-2.0
"""
A tar file of blobs and documents, as image archives are: members read in place, and written once.

Reading looks at the headers only and then reads windows of the file. A gzip-compressed archive (`docker save | gzip`)
is decompressed into a nameless temporary file first, since it can't be read in place.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import tarfile
import tempfile
import threading
import weakref
from pathlib import Path

from msgspec import Struct

from copacetic.compression import DecompressedReader, DecompressionError, detect
from copacetic.errors import ImageError, NotFoundError
from copacetic.oci.blobs import CHUNK, BlobWindow, create_beside, disk_errors, open_regular, read_whole, write_all
from copacetic.oci.tarstream import BLOCK, TarError, TarLimits, TarReader

_LIMITS = TarLimits(entries=100_000, header=1 << 20, path=4_096, depth=100)
_MAX_LINKS = 10
_MAX_RATIO = 100
_RATIO_FLOOR = 1 << 30


class Member(Struct, frozen=True):
    """A regular file of the archive (`link` empty), or a link to another member."""

    offset: int
    size: int
    link: str = ""


class ArchiveFile:
    """An archive opened for reading; the file stays open, so replacing it by name does no harm."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path, missing=f"there is no archive {path}") as (handle, size):
            compressed = detect(BlobWindow(handle, 0, min(size, 6), str(path)).read(6))
            if compressed == "none":
                self._handle, self._size = os.dup(handle), size
            elif compressed == "gzip":
                self._handle, self._size = _decompress(handle, size, path)
            else:
                hint = "decompress it first"
                raise ImageError(f"{path} is compressed with {compressed}", hint=hint)
        weakref.finalize(self, os.close, self._handle)
        self._members = self._scan()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def find(self, name: str) -> Member:
        """
        Return a regular file by its name, through links inside the archive.

        Raises `NotFoundError`, and `ImageError` for a name or a link that leads out of the archive.
        """
        at = _confined(name, self.path)
        for _ in range(_MAX_LINKS):
            member = self._members.get(at)
            if member is None:
                raise NotFoundError(f"{self.path} has no {at}", hint="the archive is incomplete; write it again")
            if not member.link:
                return member
            at = _confined(member.link, self.path)
        raise ImageError(f"{self.path}: {name!r} is a link that leads in a circle")

    def window(self, member: Member, where: str) -> BlobWindow:
        return BlobWindow(self._handle, member.offset, member.size, where)

    def read(self, name: str, *, limit: int) -> bytes:
        """Read a small document."""
        where = f"{self.path}: {name}"
        return read_whole(self.window(self.find(name), where), limit=limit, where=where)

    def _scan(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        try:
            for entry in _SeekingReader(_Seekable(self._handle, self._size)):
                if entry.type == "0":
                    if entry.offset + entry.size > self._size:
                        raise TarError(f"{entry.path[:100]!r} is cut off")  # noqa: TRY301
                    members[entry.path] = Member(entry.offset, entry.size)
                elif entry.type == "1":
                    members[entry.path] = Member(0, 0, entry.linkname)
                elif entry.type == "2":
                    members[entry.path] = Member(0, 0, posixpath.join(posixpath.dirname(entry.path), entry.linkname))
        except TarError as error:
            raise ImageError(f"{self.path} is not a usable tar file: {error}") from error
        return members


def _confined(name: str, path: Path) -> str:
    clean = posixpath.normpath(name)
    if clean.startswith(("/", "../")) or clean in {"..", "."} or "\0" in clean:
        raise ImageError(f"{path}: {name[:200]!r} leads out of the archive")
    return clean


def _decompress(handle: int, size: int, path: Path) -> tuple[int, int]:
    where = str(path)
    reader = DecompressedReader(BlobWindow(handle, 0, size, where), "gzip", limit=max(_RATIO_FLOOR, size * _MAX_RATIO))
    with disk_errors(f"can't decompress {path}"), tempfile.TemporaryFile(buffering=0) as spool:
        written = 0
        try:
            while data := reader.read(CHUNK):
                write_all(spool.fileno(), data, written, where=f"the decompressed {path}")
                written += len(data)
        except DecompressionError as error:
            raise ImageError(f"{path} can't be decompressed: {error}") from error
        return os.dup(spool.fileno()), written


class _Seekable:
    """The archive as a stream that can leave out what nobody wants to see."""

    def __init__(self, handle: int, size: int) -> None:
        self._handle = handle
        self._size = size
        self._at = 0

    def read(self, size: int, /) -> bytes:
        with disk_errors("can't read the archive"):
            data = os.pread(self._handle, max(0, min(size, self._size - self._at)), self._at)
        self._at += len(data)
        return data

    def skip(self, size: int) -> None:
        self._at += size


class _SeekingReader(TarReader):
    """Jumps over contents instead of reading them."""

    def __init__(self, stream: _Seekable) -> None:
        super().__init__(stream, limits=_LIMITS, chunk=16 * BLOCK)
        self._seekable = stream

    def _skip_rest(self) -> None:
        rest = self._left + self._padding
        jump = rest - (len(self._buffer) - self._at)
        if jump > 0:
            self._seekable.skip(jump)
            self._buffer, self._at = memoryview(b""), 0
            self._offset += rest
            self._left = self._padding = 0
        super()._skip_rest()


class ArchiveWriter:
    """
    Writes an archive beside its place, and renames it when it is complete.

    Members of known size may be written by several threads at once, each into the room that `reserve` gave it.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._handle, self._path = create_beside(target)
        self._end = 0
        self._lock = threading.Lock()

    def reserve(self, name: str, size: int) -> int:
        """Write a member's header and return where its content belongs."""
        header = _header(name, size)
        with self._lock:
            at = self._end
            self._end += len(header) + size + -size % BLOCK
        self.write_at(header, at)
        return at + len(header)

    def append(self, name: str, data: bytes) -> None:
        self.write_at(data, self.reserve(name, len(data)))

    def append_directory(self, name: str) -> None:
        with self._lock:
            at = self._end
            self._end += BLOCK
        self.write_at(_header(name, 0, directory=True), at)

    def write_at(self, data: bytes, offset: int) -> None:
        write_all(self._handle, data, offset, where=str(self._target))

    def finish(self) -> None:
        """Complete the archive and give it its name."""
        with disk_errors(f"can't write {self._target}"):
            # Two blocks of zeros end a tar; the last member's padding comes with them.
            os.ftruncate(self._handle, self._end + 2 * BLOCK)
            os.replace(self._path, self._target)

    def close(self) -> None:
        """Let go; an archive that was not finished disappears."""
        os.close(self._handle)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    @property
    def end(self) -> int:
        return self._end

    def rewind(self, end: int) -> None:
        """Take back everything from here on; nobody else may be writing."""
        with self._lock, disk_errors(f"can't write {self._target}"):
            os.ftruncate(self._handle, end)
            self._end = end


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o755 if directory else 0o644
    info.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return info.tobuf(tarfile.GNU_FORMAT)  # more than one block for the long name of a SHA-512
