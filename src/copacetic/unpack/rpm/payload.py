# SPDX-License-Identifier: Apache-2.0
"""
A package's files with their bytes, decompressed once into a file of their own.

Every file is held against the digest that the signed header gives it, so the header vouches for content even where
nothing vouches for the payload as a whole. What isn't in the header's list, or in it and not there, is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from copacetic.compression import DecompressedReader, DecompressionError, Format
from copacetic.errors import PackageError, StorageError, about_package
from copacetic.oci.change import Spooled
from copacetic.repository.limits import payload_limit
from copacetic.rpm import tags
from copacetic.rpm.files import FileFlag, RpmFile
from copacetic.unpack.rpm.cpio import MAX_NAME, CpioReader
from copacetic.unpack.rpm.files import group_links
from copacetic.unpack.rpm.package import OpenedRpm

__all__ = ["RpmFileEntry", "digest_payload", "rehearse_payload", "spool_payload"]

_FORMATS: Mapping[str, Format | None] = {
    "": None,
    "gzip": "gzip",
    "bzip2": "bzip2",
    "xz": "xz",
    "lzma": "lzma",
    "zstd": "zstd",
    "identity": "none",
}
"""What headers call compressors; gzip or none where they say nothing."""
_OVERHEAD, _FLOOR = 512, 64 * 1024
"""Bytes of an archive for one member, besides its name and content, and for all of it."""


class RpmFileEntry(Struct, frozen=True):
    """One path of a package, in the header's order; those that it doesn't ship have no content."""

    file: RpmFile
    content: Spooled | None = None
    sha256: str = ""
    first: str = ""
    """The path of the first name of the same file; empty for the first itself, and for one with one name."""


class _Writable(Protocol):
    def write(self, data: memoryview, /) -> object: ...


class _Nowhere:
    """Takes what is only hashed."""

    def write(self, data: memoryview, /) -> object:
        return len(data)


def spool_payload(package: OpenedRpm, spool: Path) -> tuple[RpmFileEntry, ...]:
    """
    Decompress a payload into `spool`, which must not exist.

    Raises `PackageError` for a payload that is broken, hostile, or much larger than the package is or says.
    """
    try:
        with spool.open("xb") as out:
            return _read(package, spool, out)
    except OSError as error:
        raise StorageError(f"{spool}: {error.strerror or error}") from error


def digest_payload(package: OpenedRpm) -> tuple[RpmFileEntry, ...]:
    """Describe a payload without keeping its bytes."""
    return _read(package, Path(), _Nowhere())


def rehearse_payload(package: OpenedRpm) -> tuple[RpmFileEntry, ...]:
    """Describe a payload, unread, for looking ahead: what is installed is checked when it is spooled."""
    return tuple(
        RpmFileEntry(file, sha256=file.digest if file.algorithm == "sha256" and not file.has(FileFlag.GHOST) else "")
        for file in package.files
    )


def _read(package: OpenedRpm, spool: Path, out: _Writable) -> tuple[RpmFileEntry, ...]:
    with about_package(package.key):
        name = package.header.text(tags.PAYLOAD_COMPRESSOR)
        if name not in _FORMATS:
            raise PackageError(f"{package.label}: its payload is compressed with {name[:40]!r}, which is not known")
        try:
            with package.path.open("rb") as source:
                source.seek(package.file.payload_start)
                stream = DecompressedReader(source, _FORMATS[name], limit=_limit(package))
                return _Reading(package, spool, out).run(CpioReader(stream, package.label))
        except DecompressionError as error:
            raise PackageError(f"{package.label}: its payload: {error}") from error


def _limit(package: OpenedRpm) -> int:
    """Return how large the archive may be, by the sizes that the header gives its files, once they are believable."""
    groups = group_links(package.files)
    shipped = [file for file in package.files if file.is_regular and not file.has(FileFlag.GHOST)]
    total = sum(file.size for file in shipped if groups.get(file.path, (file.path,))[0] == file.path)
    most = payload_limit(package.size, package.installed_size)
    if total > most:
        raise PackageError(f"{package.label}: more than {most} bytes, much larger than it is or says")
    names = sum(len(file.path) + len(file.target) for file in package.files)
    return total + 4 * names + _OVERHEAD * len(package.files) + _FLOOR


class _Reading:
    """One payload on its way."""

    def __init__(self, package: OpenedRpm, spool: Path, out: _Writable) -> None:
        self._package = package
        self._label = package.label
        self._spool, self._out = spool, out
        self._files = package.files
        self._groups = group_links(self._files)
        self._by_name = {file.path.encode("utf-8", "surrogateescape"): file for file in self._files}
        self._content: dict[str, tuple[Spooled, str]] = {}
        """By path, under all names of a file."""
        self._seen: set[str] = set()
        self._offset = 0

    def run(self, reader: CpioReader) -> tuple[RpmFileEntry, ...]:
        for member, size in reader.members(self._size_of):
            file = self._find(member)
            if file.path in self._seen:
                raise PackageError(f"{self._label}: {file.path!r} is there twice")
            self._seen.add(file.path)
            if file.has(FileFlag.GHOST):
                continue
            if file.is_regular:
                self._take_file(file, size, reader)
            elif file.is_link:
                self._check_target(file, size, reader)
            elif size:
                raise PackageError(f"{self._label}: {file.path!r} has content, and is no file")
        return tuple(map(self._entry, self._files))

    def _find(self, member: bytes | int) -> RpmFile:
        if isinstance(member, int):
            if member < len(self._files):
                return self._files[member]
            raise PackageError(f"{self._label}: its payload has more than its header's list of files")
        found = self._by_name.get(member.removeprefix(b".").lstrip(b"/"))
        if found is None:
            name = member[:200].decode("utf-8", "surrogateescape")
            raise PackageError(f"{self._label}: {name!r} is in its payload, and not in its header's list of files")
        return found

    def _size_of(self, place: int) -> int:
        """Return how many bytes a member of a stripped archive has."""
        file = self._find(place)
        if file.is_link:
            return len(file.target.encode("utf-8", "surrogateescape"))
        names = self._groups.get(file.path, (file.path,))
        return file.size if file.is_regular and names[-1] == file.path else 0

    def _take_file(self, file: RpmFile, size: int, reader: CpioReader) -> None:
        """Keep a file's bytes; of a file with several names mostly only the last has them."""
        if size == 0 and file.size:
            return
        if size != file.size:
            raise PackageError(f"{self._label}: {file.path!r} has {size} bytes, and {file.size} by its header")
        sha256 = self._copy(file, reader.content())
        spooled = Spooled(self._spool, self._offset, size)
        self._offset += size
        for path in self._groups.get(file.path, (file.path,)):
            self._content[path] = (spooled, sha256)

    def _copy(self, file: RpmFile, pieces: Iterable[memoryview]) -> str:
        """Write a file's bytes down; returns their SHA-256."""
        digest = hashlib.sha256()
        own = digest if file.algorithm == "sha256" else hashlib.new(file.algorithm, usedforsecurity=False)
        for piece in pieces:
            digest.update(piece)
            if own is not digest:
                own.update(piece)
            self._out.write(piece)
        if file.digest and own.hexdigest() != file.digest:
            raise PackageError(f"{self._label}: {file.path!r} has another digest than its header says")
        return digest.hexdigest()

    def _check_target(self, file: RpmFile, size: int, reader: CpioReader) -> None:
        target = b"".join(map(bytes, reader.content())) if size <= MAX_NAME else b""
        if target != file.target.encode("utf-8", "surrogateescape"):
            raise PackageError(f"{self._label}: {file.path!r} leads elsewhere than its header says")

    def _entry(self, file: RpmFile) -> RpmFileEntry:
        if file.has(FileFlag.GHOST):
            return RpmFileEntry(file)
        if not file.is_regular:
            if file.path not in self._seen:
                raise PackageError(f"{self._label}: {file.path!r} is not in its payload")
            return RpmFileEntry(file)
        if file.path not in self._content:
            raise PackageError(f"{self._label}: {file.path!r} is not in its payload")
        content, sha256 = self._content[file.path]
        first = self._groups.get(file.path, (file.path,))[0]
        return RpmFileEntry(file, content, sha256, first if first != file.path else "")
