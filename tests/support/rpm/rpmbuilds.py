# SPDX-License-Identifier: Apache-2.0
"""rpm packages of any content, good or hostile, made here in a moment; the real rpm installs the good ones."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from copacetic.rpm import RpmHeader, tags
from copacetic.rpm.header import (
    HEADER_MAGIC,
    INT16,
    INT32,
    INT64,
    RpmEntry,
    binary_entry,
    number_entry,
    text_entry,
    texts_entry,
)

CONFIG, DOC, MISSING_OK, NO_REPLACE, GHOST, LICENSE = 1, 2, 8, 16, 64, 128
LESS, GREATER, EQUAL = 2, 4, 8
TRIGGER_IN, TRIGGER_UN, TRIGGER_POSTUN = 1 << 16, 1 << 17, 1 << 18
TIME = 1_600_000_000
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "identity": bytes,
}


@dataclass(frozen=True)
class Shipped:
    """A path of a package; what it is follows from what it has."""

    path: str
    content: bytes | None = None
    target: str | None = None
    mode: int = 0
    flags: int = 0
    user: str = "root"
    group: str = "root"
    language: str = ""
    capabilities: str = ""
    colour: int = 0
    inode: int = 0
    device: int = 0
    """Of what it stands for, with a mode of its own."""

    @property
    def full_mode(self) -> int:
        if stat.S_IFMT(self.mode):
            return self.mode
        if self.content is not None:
            return stat.S_IFREG | (self.mode or 0o644)
        return stat.S_IFLNK | 0o777 if self.target is not None else stat.S_IFDIR | (self.mode or 0o755)

    @property
    def data(self) -> bytes:
        return self.content if self.content is not None else (self.target or "").encode()


def a_file(path: str, content: bytes | str = b"content\n", **options: object) -> Shipped:
    return Shipped(path, content if isinstance(content, bytes) else content.encode(), **options)  # type: ignore[arg-type]


def a_link(path: str, target: str, **options: object) -> Shipped:
    return Shipped(path, target=target, **options)  # type: ignore[arg-type]


def a_folder(path: str, **options: object) -> Shipped:
    return Shipped(path, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trigger:
    """A script that others set off; `events` are a sense of rpm's."""

    events: int
    name: str
    script: str
    kind: str = "package"
    """package, file or transaction."""
    program: str = "/bin/sh"
    version: str = ""


@dataclass(frozen=True)
class Build:
    """A package to be written."""

    name: str
    version: str = "1"
    release: str = "1"
    architecture: str = "noarch"
    files: Sequence[Shipped] = ()
    scripts: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)
    """prein, postin, preun, postun, pretrans, posttrans: the body, or the program with it."""
    triggers: Sequence[Trigger] = ()
    compressor: str = "gzip"
    stripped: bool = False
    provides: Sequence[str] = ()
    requires: Sequence[str] = ()
    extra: Sequence[RpmEntry] = ()
    """Values that take the place of others of their tags."""
    payload: bytes | None = None
    """Instead of the archive that the files make, before it is compressed."""
    digest: str = "sha256"

    def write(self, folder: Path) -> Path:
        """Write it to a folder; returns its path."""
        path = folder / f"{self.name}-{self.version}-{self.release}.{self.architecture}.rpm"
        path.write_bytes(self.to_bytes())
        return path

    def to_bytes(self) -> bytes:
        header = self.header()
        payload = COMPRESSORS[self.compressor](self.archive() if self.payload is None else self.payload)
        md5 = hashlib.md5(header.blob and HEADER_MAGIC + header.blob + payload, usedforsecurity=False).digest()
        sha1 = hashlib.sha1(HEADER_MAGIC + header.blob, usedforsecurity=False).hexdigest()
        signature = RpmHeader.build(
            [
                text_entry(tags.SHA1_HEADER, sha1),
                text_entry(tags.SHA256_HEADER, hashlib.sha256(HEADER_MAGIC + header.blob).hexdigest()),
                number_entry(tags.SIG_SIZE, [len(header.blob) + 8 + len(payload)]),
                binary_entry(tags.SIG_MD5, md5),
            ],
            tags.HEADER_SIGNATURES,
        )
        lead = b"\xed\xab\xee\xdb\x03\0\0\0\0\x01" + self.name.encode()[:65].ljust(66, b"\0") + b"\0\x01\0\x05"
        front = HEADER_MAGIC + signature.blob
        return lead.ljust(96, b"\0") + front + bytes(-len(front) % 8) + HEADER_MAGIC + header.blob + payload

    def header(self) -> RpmHeader:
        """Return the header, as a package file has it."""
        evr = f"{self.version}-{self.release}"
        provides = [self.name, *self.provides]
        size = sum(len(one.data) for one in self.files if one.content is not None)
        entries = [
            texts_entry(tags.HEADER_I18N_TABLE, ["C"]),
            text_entry(tags.NAME, self.name),
            text_entry(tags.VERSION, self.version),
            text_entry(tags.RELEASE, self.release),
            texts_entry(tags.SUMMARY, ["a test"], 9),
            texts_entry(tags.DESCRIPTION, ["a test"], 9),
            texts_entry(tags.GROUP, ["Unspecified"], 9),
            number_entry(tags.BUILD_TIME, [TIME]),
            text_entry(tags.BUILD_HOST, "localhost"),
            number_entry(tags.SIZE, [size]),
            text_entry(tags.LICENSE, "MIT"),
            text_entry(tags.OS, "linux"),
            text_entry(tags.ARCH, self.architecture),
            text_entry(tags.SOURCE_RPM, f"{self.name}-{evr}.src.rpm"),
            texts_entry(tags.PROVIDE_NAMES, provides),
            number_entry(tags.PROVIDE_FLAGS, [EQUAL] + [0] * len(self.provides)),
            texts_entry(tags.PROVIDE_VERSIONS, [evr] + [""] * len(self.provides)),
            text_entry(tags.PAYLOAD_FORMAT, "cpio"),
            text_entry(tags.PAYLOAD_COMPRESSOR, self.compressor),
            text_entry(tags.PAYLOAD_FLAGS, "9"),
            *self._require_entries(),
            *self._script_entries(),
            *self._file_entries(),
        ]
        own = {entry.tag for entry in self.extra}
        return RpmHeader.build([*(entry for entry in entries if entry.tag not in own), *self.extra])

    def archive(self) -> bytes:
        """Return the payload, not compressed."""
        last = {self._inode(n): n for n in range(len(self.files))}
        parts: list[bytes] = []
        for number, one in enumerate(self.files):
            if one.flags & GHOST:
                continue
            data = one.data if one.content is None or last[self._inode(number)] == number else b""
            parts.append(pack_stripped(number, data) if self.stripped else pack_member(one, self._inode(number), data))
        return b"".join((*parts, pack_member(Shipped("TRAILER!!!", b""), 0, b"")))

    def _inode(self, number: int) -> int:
        return self.files[number].inode or 1000 + number

    def _require_entries(self) -> list[RpmEntry]:
        names = list(self.requires)
        if not names:
            return []
        return [
            texts_entry(tags.REQUIRE_NAMES, names),
            number_entry(tags.REQUIRE_FLAGS, [0] * len(names)),
            texts_entry(tags.REQUIRE_VERSIONS, [""] * len(names)),
        ]

    def _script_entries(self) -> list[RpmEntry]:
        found: list[RpmEntry] = []
        for name, script in self.scripts.items():
            program, body = script if isinstance(script, tuple) else ("/bin/sh", script)
            if body:
                found.append(text_entry(getattr(tags, name.upper()), body))
            found.append(text_entry(getattr(tags, f"{name.upper()}_PROGRAM"), program))
        for kind, prefix in (("package", ""), ("file", "FILE_"), ("transaction", "TRANSACTION_FILE_")):
            some = [trigger for trigger in self.triggers if trigger.kind == kind]
            if some:
                found += _trigger_entries(prefix, some)
        return found

    def _file_entries(self) -> list[RpmEntry]:
        files = self.files
        if not files:
            return []
        folders = list(dict.fromkeys(f"{one.path.rpartition('/')[0]}/" for one in files))
        entries = [
            texts_entry(tags.BASE_NAMES, [one.path.rpartition("/")[2] for one in files]),
            texts_entry(tags.DIRECTORY_NAMES, folders),
            number_entry(tags.DIRECTORY_INDEXES, [folders.index(f"{one.path.rpartition('/')[0]}/") for one in files]),
            number_entry(tags.FILE_SIZES, [len(one.data) for one in files]),
            number_entry(tags.FILE_MODES, [one.full_mode for one in files], INT16),
            number_entry(tags.FILE_DEVICE_NUMBERS, [one.device for one in files], INT16),
            number_entry(tags.FILE_TIMES, [TIME] * len(files)),
            texts_entry(tags.FILE_DIGESTS, [self._digest(one) for one in files]),
            texts_entry(tags.FILE_LINKS, [one.target or "" for one in files]),
            number_entry(tags.FILE_FLAGS, [one.flags for one in files]),
            texts_entry(tags.FILE_USERS, [one.user for one in files]),
            texts_entry(tags.FILE_GROUPS, [one.group for one in files]),
            number_entry(tags.FILE_VERIFY_FLAGS, [0xFFFFFFFF] * len(files)),
            number_entry(tags.FILE_DEVICES, [1] * len(files)),
            number_entry(tags.FILE_INODES, [self._inode(n) for n in range(len(files))]),
            texts_entry(tags.FILE_LANGUAGES, [one.language for one in files]),
            number_entry(tags.FILE_COLORS, [one.colour for one in files]),
            number_entry(tags.FILE_DIGEST_ALGORITHM, [{"md5": 1, "sha1": 2, "sha256": 8, "sha512": 10}[self.digest]]),
        ]
        if any(one.capabilities for one in files):
            entries.append(texts_entry(tags.FILE_CAPABILITIES, [one.capabilities for one in files]))
        return entries

    def _digest(self, one: Shipped) -> str:
        if one.content is None or one.flags & GHOST:
            return ""
        return hashlib.new(self.digest, one.content, usedforsecurity=False).hexdigest()


def _trigger_entries(prefix: str, triggers: Sequence[Trigger]) -> list[RpmEntry]:
    def tag(name: str) -> int:
        found: int = getattr(tags, f"{prefix}TRIGGER_{name}")
        return found

    found = [
        texts_entry(tag("SCRIPTS"), [trigger.script for trigger in triggers]),
        texts_entry(tag("PROGRAMS"), [trigger.program for trigger in triggers]),
        texts_entry(tag("NAMES"), [trigger.name for trigger in triggers]),
        texts_entry(tag("VERSIONS"), [trigger.version for trigger in triggers]),
        number_entry(tag("FLAGS"), [trigger.events for trigger in triggers]),
        number_entry(tag("INDEXES"), list(range(len(triggers)))),
    ]
    if prefix:
        found.append(number_entry(tag("PRIORITIES"), [1_000_000] * len(triggers)))
    return found


def pack_member(one: Shipped, inode: int, data: bytes, *, name: bytes | None = None, size: int | None = None) -> bytes:
    """Return a member of an archive, as newc has it."""
    shown = name if name is not None else one.path.encode("utf-8", "surrogateescape")
    if shown.startswith(b"/"):
        shown = b"." + shown
    fields = [inode, one.full_mode, 0, 0, 1, TIME, len(data) if size is None else size, 0, 0, 0, 0, len(shown) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + shown + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def pack_stripped(number: int, data: bytes) -> bytes:
    """Return a member that has nothing but its number and its content."""
    head = b"07070X%08x" % number
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def long_sizes(sizes: Sequence[int]) -> RpmEntry:
    """Return the sizes of files, as a package with very large ones has them."""
    return number_entry(tags.LONG_FILE_SIZES, sizes, INT64)


__all__ = ["INT32", "Build", "Shipped", "Trigger", "a_file", "a_folder", "a_link", "long_sizes", "pack_member"]
