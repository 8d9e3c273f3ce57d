# SPDX-License-Identifier: Apache-2.0
"""
A package's files, decompressed once into a file of their own and described.

Follows deb(5) and what dpkg accepts: directories, files, symbolic and hard links. The spool is the plain tar, and a
file's content is a window of it. Every path is relative and crosses nothing that the package itself made a link.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from copacetic.compression import DecompressedReader
from copacetic.errors import PackageError
from copacetic.inventory.dpkg.archive import DebArchive, guard_package
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import FileType
from copacetic.oci.tarstream import TarEntry, TarLimits, TarReader
from copacetic.repository.limits import MAX_ENTRIES, payload_limit
from copacetic.unpack.package import PathList

__all__ = ["DebEntry", "read_checksums", "spool_payload"]

MAX_FILE = 8 * 1024**3
_RECORDS = re.compile(
    r"var/lib/(?:dpkg/(?:status|arch|diversions|statoverride|(?:alternatives|info|status\.d|triggers|updates)/.+)"
    r"|chisel/manifest\.wall)"
)
_TYPES: Mapping[str, FileType] = {"0": FileType.FILE, "2": FileType.SYMLINK, "5": FileType.DIRECTORY}


class DebEntry(Struct, frozen=True, kw_only=True):
    """One path of a package. A hard link has the type of a file and names its target."""

    path: str
    type: FileType
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    mtime: int
    target: str = ""
    hardlink: str = ""
    content: Spooled | None = None
    sha256: str = ""


def spool_payload(archive: DebArchive, spool: Path | None, *, installed_size: int) -> tuple[DebEntry, ...]:
    """
    Decompress a payload into `spool`, which must not exist, and describe what is in it; None keeps no content.

    Raises `PackageError` for a payload that is broken, hostile, or much larger than the package is or says.
    """
    limit = payload_limit(archive.data.size, installed_size)
    entries: dict[str, DebEntry] = {}
    paths = PathList(archive.label, _RECORDS)
    with (
        guard_package(archive.path, archive.label),
        archive.open_part(archive.data, limit=limit) as stream,
        nullcontext() if spool is None else spool.open("xb") as out,
    ):
        source = stream if out is None else _Tee(stream, out)
        reader = TarReader(source, limits=TarLimits(entries=MAX_ENTRIES, file_size=MAX_FILE))
        for entry in reader:
            described = _describe(entry, reader, spool, archive.label)
            paths.add(described.path, described.type, described.hardlink)
            entries[described.path] = described
    return tuple(entries.values())


def read_checksums(archive: DebArchive, paths: Collection[str], *, installed_size: int) -> Mapping[str, str]:
    """Return the MD5 of some files of a payload, reading no further than to the last of them."""
    missing = set(paths)
    found: dict[str, str] = {}
    limit = payload_limit(archive.data.size, installed_size)
    with guard_package(archive.path, archive.label), archive.open_part(archive.data, limit=limit) as stream:
        reader = TarReader(stream, limits=TarLimits(entries=MAX_ENTRIES, file_size=MAX_FILE), chunk=1 << 16)
        for entry in reader if missing else ():
            if entry.path in missing and entry.type == "0":
                digest = hashlib.md5(usedforsecurity=False)
                for piece in reader.content():
                    digest.update(piece)
                found[entry.path] = digest.hexdigest()
                missing.discard(entry.path)
                if not missing:
                    break
    return found


class _Tee:
    """Passes a stream on and keeps what it read."""

    def __init__(self, stream: DecompressedReader, out: BinaryIO) -> None:
        self._stream = stream
        self._out = out

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._out.write(data)
        return data


def _describe(entry: TarEntry, reader: TarReader, spool: Path | None, package: str) -> DebEntry:
    if entry.type not in "0125":
        raise PackageError(f"{package}: {entry.path!r} is a device or a pipe, which no package may ship")
    if entry.xattrs:
        raise PackageError(f"{package}: {entry.path!r} has extended attributes, which dpkg refuses")
    content = None
    sha256 = ""
    if entry.type == "0":
        digest, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False) if spool is not None else None
        for piece in reader.content():
            digest.update(piece)
            if md5 is not None:
                md5.update(piece)
        sha256 = digest.hexdigest()
        if spool is not None and md5 is not None:
            content = Spooled(spool, entry.offset, entry.size, {"sha256": sha256, "md5": md5.hexdigest()})
    return DebEntry(
        path=entry.path,
        type=_TYPES.get(entry.type, FileType.FILE),
        mode=0o777 if entry.type == "2" else entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.uname,
        group=entry.gname,
        mtime=entry.mtime,
        target=entry.linkname if entry.type == "2" else "",
        hardlink=entry.linkname if entry.type == "1" else "",
        content=content,
        sha256=sha256,
    )
