# SPDX-License-Identifier: Apache-2.0
"""
A package's files, inflated once into a file of their own and checked on the way.

A file's content is a window of the spool. What apk could only install by leaving its own rules (a file whose
directory is not in the package, a hard link to somebody else's file, one path twice) is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from copacetic.budget import Slots
from copacetic.errors import PackageError, StorageError, about_package
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import FileType
from copacetic.repository.apk.package import ApkEntry
from copacetic.repository.limits import payload_limit
from copacetic.unpack.apk.package import ApkPackage
from copacetic.unpack.package import PathList
from copacetic.updates import PackageKey

__all__ = ["ApkFileEntry", "Payloads", "list_payloads", "spool_payload"]

MAX_KEPT = 4 * 1024**2
_KEPT = ("etc/", "bin/busybox", "usr/bin/busybox")
_KEEP = ".keep_"
"""Files with more after this only keep a directory in a source tree; apk installs none of them."""
_RECORDS = re.compile(r"etc/apk/world|(?:usr/)?lib/apk/db/(?:installed|lock|scripts\.tar(?:\.gz)?|triggers)")
_TYPES: Mapping[str, FileType] = {
    "0": FileType.FILE,
    "1": FileType.FILE,
    "2": FileType.SYMLINK,
    "3": FileType.CHARACTER_DEVICE,
    "4": FileType.BLOCK_DEVICE,
    "5": FileType.DIRECTORY,
    "6": FileType.FIFO,
}


class ApkFileEntry(Struct, frozen=True):
    """One path of a package, in the package's order."""

    raw: ApkEntry
    content: Spooled | bytes | None = None
    sha256: str = ""

    @property
    def path(self) -> str:
        return self.raw.path

    @property
    def type(self) -> FileType:
        """A hard link has the type of a file."""
        return _TYPES[self.raw.type]

    @property
    def hardlink(self) -> str:
        """The path of which this is another name, or ""."""
        return self.raw.link if self.raw.type == "1" else ""

    @property
    def directory(self) -> str:
        return self.raw.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.raw.path.rpartition("/")[2]


class _Writable(Protocol):
    def write(self, data: memoryview, /) -> object: ...


Payloads = Mapping[PackageKey, tuple[ApkFileEntry, ...]]
"""By the packages' keys."""


def spool_payload(package: ApkPackage, spool: Path) -> tuple[ApkFileEntry, ...]:
    """
    Inflate a payload into `spool`, which must not exist, and describe what is in it.

    Raises `PackageError` for a payload that is broken, hostile, or much larger than the package is or says.
    """
    if package.is_virtual:
        return ()
    try:
        with spool.open("xb") as out:
            return _read(package, spool, out)
    except OSError as error:
        raise StorageError(f"{spool}: {error.strerror or error}") from error


def list_payloads(
    packages: Sequence[ApkPackage], processors: Slots | None = None, *, digests: bool = False
) -> Payloads:
    """
    Describe payloads, unchecked, with the content (and its digest) of only the files that scripts may ask about.

    This is for looking ahead: what is installed is checked when it is spooled. `digests` checks, and adds the digests
    of all files. Without slots it is done one by one.
    """

    def read(package: ApkPackage) -> tuple[ApkFileEntry, ...]:
        return () if package.is_virtual else _read(package, Path(), _Nowhere() if digests else None)

    found = processors.map(read, packages) if processors is not None else map(read, packages)
    return {package.key: entries for package, entries in zip(packages, found, strict=True)}


class _Nowhere:
    """Takes what is only hashed."""

    def write(self, data: memoryview, /) -> object:
        return len(data)


def _read(package: ApkPackage, spool: Path, out: _Writable | None) -> tuple[ApkFileEntry, ...]:
    with about_package(package.key):
        return _read_entries(package, spool, out)


def _read_entries(package: ApkPackage, spool: Path, out: _Writable | None) -> tuple[ApkFileEntry, ...]:
    left = limit = payload_limit(package.size, package.installed_size)
    found: dict[str, ApkFileEntry] = {}
    paths = PathList(package.label, _RECORDS)
    offset = 0
    for raw, content in package.file.entries(checked=out is not None):
        name = raw.path.rpartition("/")[2]
        if raw.type != "5" and name.startswith(_KEEP) and name != _KEEP:
            continue
        entry = ApkFileEntry(raw)
        if raw.type == "0":
            left -= raw.size
            if left < 0:
                raise PackageError(f"{package.label}: more than {limit} bytes, much larger than it is or says")
            if out is not None:
                entry = ApkFileEntry(raw, Spooled(spool, offset, raw.size), _copy(content, out))
            elif raw.size <= MAX_KEPT and raw.path.startswith(_KEPT):
                kept = b"".join(map(bytes, content))
                entry = ApkFileEntry(raw, kept, hashlib.sha256(kept).hexdigest())
            offset += raw.size
        paths.add(entry.path, entry.type, entry.hardlink)
        if entry.type is not FileType.DIRECTORY and entry.directory and entry.directory not in found:
            raise PackageError(f"{package.label}: {entry.path!r} has no directory in the package")
        if entry.hardlink and "/" not in entry.hardlink:  # apk itself looks for a link's target only in directories
            raise PackageError(f"{package.label}: {entry.path!r} is a hard link to {entry.hardlink!r}, no file of it")
        found[raw.path] = entry
    return tuple(found.values())


def _copy(content: Iterator[memoryview], out: _Writable) -> str:
    """Write a file's bytes down; returns their SHA-256."""
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
        out.write(piece)
    return digest.hexdigest()
