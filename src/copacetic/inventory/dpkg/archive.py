# SPDX-License-Identifier: Apache-2.0
"""
Debian's binary package files: an ar archive of a version, a control part and a payload.

Follows deb(5) for format 2.x. A file is only believed as far as it can be checked: every size has a limit, and
whatever is out of order is a `PackageError` that names the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from copacetic.compression import DecompressedReader, DecompressionError, Format
from copacetic.errors import PackageError, StorageError
from copacetic.oci.tarstream import TarError, TarLimits, TarReader

__all__ = ["ArchivePart", "ControlPart", "DebArchive", "guard_package"]

MAX_CONTROL_PART = 64 * 1024 * 1024
MAX_CONTROL_FILES = 1_000
_MAGIC = b"!<arch>\n"
_HEADER = 60
_NUMBER = re.compile(rb"[0-9]{1,10} *")
_CONTROL_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
_FORMATS: Mapping[str, Format] = {"": "none", ".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2"}
_CONTROL_FORMATS = frozenset(("", ".gz", ".xz", ".zst"))


class ArchivePart(Struct, frozen=True):
    """A member's bytes inside the package file."""

    offset: int
    size: int
    format: Format


class ControlPart(Struct, frozen=True):
    """The files about the package: `control`, scripts, `md5sums`, …"""

    files: Mapping[str, bytes]
    executable: frozenset[str]
    newest_mtime: int


class DebArchive(Struct, frozen=True):
    """An opened package file."""

    path: Path
    label: str
    """What errors call it: name and version, as the file's own name is often a digest."""
    control: ArchivePart
    data: ArchivePart

    @classmethod
    def open(cls, path: Path, label: str = "") -> DebArchive:
        """Find the parts. Raises `PackageError` when this is no package."""
        label = label or path.name
        with guard_package(path, label), path.open("rb") as file:
            members = _members(file)
            name, window = next(members, ("", ArchivePart(0, 0, "none")))
            version = _window_bytes(file, window, 64)
            if name != "debian-binary" or not version.startswith(b"2."):
                raise PackageError(f"{label}: not a Debian package of format 2")
            control = _expect(members, "control.tar", _CONTROL_FORMATS, label)
            data = _expect(members, "data.tar", frozenset(_FORMATS), label)
        return cls(path, label, control, data)

    def read_control(self) -> ControlPart:
        """Read the control part. Raises `PackageError` when it is broken, or holds anything but plain files."""
        files: dict[str, bytes] = {}
        executable: set[str] = set()
        newest = 0
        with guard_package(self.path, self.label), self.open_part(self.control, limit=MAX_CONTROL_PART) as stream:
            reader = TarReader(stream, limits=TarLimits(entries=MAX_CONTROL_FILES, file_size=MAX_CONTROL_PART))
            for entry in reader:
                newest = max(newest, entry.mtime)
                if entry.type == "5" and entry.path == "":
                    continue
                if entry.type != "0" or _CONTROL_NAME.fullmatch(entry.path) is None or entry.path in files:
                    raise PackageError(f"{self.label}: {entry.path!r} has no place in a control part")
                files[entry.path] = b"".join(bytes(piece) for piece in reader.content())
                if entry.mode & 0o111:
                    executable.add(entry.path)
        if "control" not in files:
            raise PackageError(f"{self.label}: no control file")
        return ControlPart(files, frozenset(executable), newest)

    @contextmanager
    def open_part(self, window: ArchivePart, *, limit: int) -> Iterator[DecompressedReader]:
        """Open a part for reading; see `guard_package` for what may go wrong on the way."""
        with self.path.open("rb") as file:
            yield DecompressedReader(_WindowReader(file, window), window.format, limit=limit)


@contextmanager
def guard_package(path: Path, label: str) -> Iterator[None]:
    """Turn what goes wrong while a package file is read into an error that names it."""
    try:
        yield
    except (DecompressionError, TarError) as error:
        raise PackageError(f"{label}: {error}") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


class _WindowReader:
    """The bytes of one member as a stream."""

    def __init__(self, file: BinaryIO, window: ArchivePart) -> None:
        file.seek(window.offset)
        self._file = file
        self._left = window.size

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _members(file: BinaryIO) -> Iterator[tuple[str, ArchivePart]]:
    """Yield the members' names and places; compression is told from the name."""
    end = file.seek(0, 2)
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        return
    position = len(_MAGIC)
    while position < end:
        file.seek(position)
        header = file.read(_HEADER)
        if len(header) < _HEADER or header[58:] != b"`\n" or _NUMBER.fullmatch(header[48:58]) is None:
            raise TarError(f"a broken ar header at byte {position}")
        size = int(header[48:58])
        start = position + _HEADER
        if start + size > end:
            raise TarError(f"truncated: a member of {size} bytes at byte {start}")
        name = header[:16].rstrip(b" ").removesuffix(b"/").decode("latin-1")
        suffix = next((s for s in _FORMATS if s and name.endswith(s)), "")
        yield name, ArchivePart(start, size, _FORMATS[suffix])
        position = start + size + size % 2


def _expect(members: Iterator[tuple[str, ArchivePart]], stem: str, suffixes: frozenset[str], label: str) -> ArchivePart:
    """Return the next member, which must have this name; those that start with an underscore don't count."""
    for name, window in members:
        if name.startswith("_"):
            continue
        if name.startswith(stem) and name.removeprefix(stem) in suffixes:
            return window
        raise PackageError(f"{label}: found {name!r} where {stem} belongs")
    raise PackageError(f"{label}: no {stem}")


def _window_bytes(file: BinaryIO, window: ArchivePart, limit: int) -> bytes:
    file.seek(window.offset)
    return file.read(min(window.size, limit))
