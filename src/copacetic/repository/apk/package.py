# SPDX-License-Identifier: Apache-2.0
"""
A package file of apk v2: signatures, control part and payload, each checked against what vouches for it.

The index's identity is the SHA-1 of the compressed control member; `datahash` in its `.PKGINFO` is the SHA-256 of
the compressed data member; and each file's own record there has the SHA-1 of its content.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from msgspec import Struct

from copacetic.apk import SCRIPTS
from copacetic.apk.stanza import checksum_of
from copacetic.compression import DecompressionError
from copacetic.errors import PackageError
from copacetic.oci.tarstream import TarEntry, TarError, TarLimits
from copacetic.repository.apk.container import GzipMember, StrictTarReader, iter_members, read_entries
from copacetic.repository.limits import MAX_ENTRIES, payload_limit

__all__ = ["SIGNATURE_NAME", "ApkEntry", "ApkFile", "ApkSignature", "PackageInfo", "is_adb", "open_package"]

CONTROL_LIMIT = 16 * 1024 * 1024
LARGEST_ID = 2**32 - 2
"""Of users and groups; the number after it stands for none."""
_CHECKSUM = "APK-TOOLS.checksum.SHA1"
SIGNATURE_NAME = re.compile(r"\.SIGN\.([A-Z0-9]{2,16})\.([A-Za-z0-9@._+-]{1,200})")
_HEX = re.compile(rb"[0-9a-f]{40}")
_DATAHASH = re.compile(r"[0-9a-f]{64}")
_ROW = {
    "pkgname": "P",
    "pkgver": "V",
    "pkgdesc": "T",
    "url": "U",
    "license": "L",
    "size": "I",
    "origin": "o",
    "maintainer": "m",
    "builddate": "t",
    "commit": "c",
    "provider_priority": "k",
    "depend": "D",
    "provides": "p",
    "install_if": "i",
    "replaces": "r",
    "replaces_priority": "q",
}


class ApkSignature(Struct, frozen=True):
    """What a member in front of the signed ones holds."""

    algorithm: str
    """RSA (SHA-1), RSA256, RSA512, DSA."""
    key_name: str
    signature: bytes


class PackageInfo(Struct, frozen=True):
    """What a package says of itself; in `.PKGINFO` a key is repeated for each value of a list."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, data: bytes) -> PackageInfo:
        values: dict[str, list[str]] = defaultdict(list)
        for line in data.decode("utf-8", "surrogateescape").split("\n"):
            key, separator, value = line.partition(" = ")
            if separator and not line.startswith("#"):
                values[key].append(value)
        return cls({key: tuple(found) for key, found in values.items()})

    def find(self, key: str) -> str:
        """Return the last value, as apk does, or ""."""
        return self.values.get(key, ("",))[-1]

    def items(self, key: str) -> tuple[str, ...]:
        """Return the words of all values."""
        return tuple(word for value in self.values.get(key, ()) for word in value.split())

    @property
    def triggers(self) -> tuple[str, ...]:
        """Patterns of directories."""
        return self.items("triggers")

    def row(self, *, identity: str, size: int, architecture: str) -> dict[str, str]:
        """
        Return the fields that an index has for this package, with `r` and `q`, which no index has.

        `architecture` is that of the index's row: Alpine's says x86_64 where the package itself says noarch.
        """
        row = {"C": identity, "A": architecture or self.find("arch"), "S": str(size)}
        for key, letter in _ROW.items():
            if key in self.values:
                row[letter] = " ".join(self.items(key)) if letter in "Dpir" else self.find(key)
        return row


class ApkEntry(Struct, frozen=True, kw_only=True):
    """One path of a payload, in its own order."""

    path: str
    """Relative and plain."""
    type: str
    """As in ustar: 0 file, 1 hard link, 2 symlink, 3 and 4 devices, 5 directory, 6 fifo."""
    mode: int
    uid: int
    gid: int
    user: str
    """Counts before the number, when the image knows the name."""
    group: str
    size: int
    mtime: int
    link: str = ""
    """A symlink's target, or the path of which a hard link is another name."""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = {}
    checksum: str = ""
    """`Q1…` of the content, or of a symlink's target, as the database records it; empty when the package has none."""


class ApkFile(Protocol):
    """A package file of any version of the format, opened; its control part is read and checked."""

    identity: str
    """`Q1…`, as in the index."""
    info: PackageInfo
    scripts: Mapping[str, bytes]
    """By the names in `SCRIPTS`."""
    flags: str
    """To be recorded in `f:` of the database: `S` when checksums are cut SHA-256, else empty."""
    size: int
    """Of the file, in bytes."""

    def verify(self) -> None:
        """Check the whole file as far as that goes without unpacking it. Raises `PackageError`."""
        ...

    def entries(self, *, checked: bool = True) -> Iterator[tuple[ApkEntry, Iterator[memoryview]]]:
        """
        Yield the payload, each file with its content in pieces; what is not read of them is skipped.

        Without `checked` it is only looked at, by who will check it later, and costs half as much.

        Every file's content is held against its checksum, the whole against the control part. Raises
        `PackageError`, at the latest at the end: use nothing of it before that.
        """
        ...


@contextmanager
def _guard(what: str) -> Iterator[None]:
    """Name the package in whatever is wrong with it."""
    try:
        yield
    except (TarError, DecompressionError) as error:
        raise PackageError(f"{what}: {error}") from error
    except OSError as error:
        raise PackageError(f"{what}: {error.strerror or error}") from error


def is_adb(start: bytes) -> bool:
    """Tell from the first 4 bytes whether this is a container of apk 3, compressed or not."""
    return start[:3] == b"ADB" and start[3:4] in {b".", b"d", b"c"}


def open_package(path: Path, what: str, *, identity: str = "") -> ApkFile:
    """
    Open a package file of either format and read its control part; `what` names it in messages.

    Raises `PackageError`, also when it has another identity than the given one.
    """
    package: ApkFile
    with _guard(what), path.open("rb") as stream:
        third = is_adb(stream.read(4))
    if third:
        from copacetic.repository.apk.v3 import PackageV3

        package = PackageV3(path, what)
    else:
        package = _Package(path, what)
    if identity and package.identity != identity:
        raise PackageError(f"{what}: expected the identity {identity}, the file has {package.identity}")
    return package


class _Package:
    """`ApkFile` of apk v2."""

    flags = ""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        with _guard(what), path.open("rb") as stream:
            self.size = path.stat().st_size
            self._read_control(stream)
        self._datahash = self.info.find("datahash")
        if not _DATAHASH.fullmatch(self._datahash):
            raise PackageError(f"{what}: .PKGINFO has no usable datahash")

    def _read_control(self, stream: BinaryIO) -> None:
        signatures: list[ApkSignature] = []
        for member in iter_members(stream, limit=CONTROL_LIMIT):
            files = {entry.path: data for entry, data in read_entries(member.read_all()) if entry.type == "0"}
            if ".PKGINFO" in files:
                self.signatures = tuple(signatures)
                self.identity = checksum_of(member.sha1)
                self.info = PackageInfo.parse(files[".PKGINFO"])
                self.scripts: Mapping[str, bytes] = {name: files[f".{name}"] for name in SCRIPTS if f".{name}" in files}
                self._data_offset = member.offset + member.size
                return
            found = [SIGNATURE_NAME.fullmatch(name) for name in files]
            if not files or not all(found):
                raise PackageError(f"{self._what}: no .PKGINFO where the control part should be")
            signatures += [
                ApkSignature(m[1], m[2], data) for m, data in zip(found, files.values(), strict=True) if m is not None
            ]
        raise PackageError(f"{self._what}: there is no control part")

    def verify(self) -> None:
        with _guard(self._what), self._path.open("rb") as stream:
            stream.seek(self._data_offset)
            self._check(hashlib.file_digest(stream, "sha256").hexdigest())

    def entries(self, *, checked: bool = True) -> Iterator[tuple[ApkEntry, Iterator[memoryview]]]:
        with _guard(self._what), self._path.open("rb") as stream:
            stream.seek(self._data_offset)
            digest = ""
            for member in iter_members(stream, limit=payload_limit(self.size), digests=checked):
                if digest:
                    raise PackageError(f"{self._what}: several data parts, an obsolete form that is not supported")
                yield from self._entries(member, checked=checked)
                digest = member.sha256.hex()
            if not digest:
                raise PackageError(f"{self._what}: there is no data part")
            if checked:
                self._check(digest)

    def _entries(self, member: GzipMember, *, checked: bool) -> Iterator[tuple[ApkEntry, Iterator[memoryview]]]:
        reader = StrictTarReader(member, limits=TarLimits(entries=MAX_ENTRIES, file_size=payload_limit(self.size)))
        for found in reader:
            if found.path.startswith(".") or not found.path:
                continue
            entry, digest = self._entry(found)
            if not checked:
                yield entry, reader.content()
                continue
            content = _Checked(reader, digest, f"{self._what}: {found.path}")
            yield entry, content
            content.finish()
        reader.drain()

    def _entry(self, found: TarEntry) -> tuple[ApkEntry, bytes]:
        recorded = found.records.get(_CHECKSUM, b"")
        if recorded and not _HEX.fullmatch(recorded):
            raise PackageError(f"{self._what}: {found.path} has the checksum {recorded[:80]!r}")
        if max(found.uid, found.gid) > LARGEST_ID:
            raise PackageError(f"{self._what}: {found.path} has an impossible owner")
        digest = bytes.fromhex(recorded.decode()) if found.type in "02" else b""
        if found.type == "2" and digest and _sha1(found.linkname.encode("utf-8", "surrogateescape")) != digest:
            raise PackageError(f"{self._what}: {found.path} is not what its checksum says")
        entry = ApkEntry(
            path=found.path,
            type=found.type,
            mode=found.mode,
            uid=found.uid,
            gid=found.gid,
            user=found.uname,
            group=found.gname,
            size=found.size,
            mtime=found.mtime,
            link=found.linkname if found.type in "12" else "",
            device=found.device,
            xattrs=found.xattrs,
            checksum=checksum_of(digest) if digest else "",
        )
        return entry, digest if found.type == "0" else b""

    def _check(self, sha256: str) -> None:
        if sha256 != self._datahash:
            raise PackageError(f"{self._what}: expected the data part {self._datahash}, the file has {sha256}")


class _Checked:
    """A file's content, hashed while it is read."""

    def __init__(self, reader: StrictTarReader, digest: bytes, what: str) -> None:
        self._pieces = reader.content()
        self._digest = digest
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._what = what

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        piece = next(self._pieces)
        if self._digest:
            self._sha1.update(piece)
        return piece

    def finish(self) -> None:
        for _ in self:
            pass
        if self._digest and self._sha1.digest() != self._digest:
            raise PackageError(f"{self._what} is not what its checksum says")


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


_: type[ApkFile] = _Package
