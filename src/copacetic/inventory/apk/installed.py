# SPDX-License-Identifier: Apache-2.0
"""
The `installed` file: for each package a header of one-letter fields, then its directories and files.

    F:dir  [M:uid:gid:mode[:Q1…]]     a directory; M: unless 0:0:755
    R:file [a:uid:gid:mode[:Q1…]]     a file in it; a: unless 0:0:644
           [Z:Q1…]                    of its content, or of a symlink's target

A record that doesn't change keeps the text that it was read from: apko's has another order of fields than apk's own,
and scanners read either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from copacetic.apk.stanza import ApkStanza, checksum_bytes, format_header, parse_fields
from copacetic.errors import InventoryError

__all__ = ["ApkDirectory", "ApkRecord", "ListedFile", "Owner", "parse_records"]

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9._+-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_OWNER = re.compile(r"([0-9]{1,10}):([0-9]{1,10}):([0-7]{1,6})(?::(\S+))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LARGEST_ID = 2**32 - 1
_MAX_FILES = 500_000
"""Of all packages, with their directories: each costs many times the bytes of its line."""
_MAX_PACKAGES = 30_000
_PERMISSIONS = 0o7777
_DIRECTORY_START = "\nF:"


class Owner(Struct, frozen=True):
    """What `M:` and `a:` record."""

    uid: int
    gid: int
    mode: int
    xattrs: str = ""
    """`Q1…` of the extended attributes."""

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Raises `ValueError`."""
        match = _OWNER.fullmatch(text)
        if match is None or max(int(match[1]), int(match[2])) > _LARGEST_ID:
            raise ValueError(f"not an owner and a mode: {text[:80]!r}")
        return cls(int(match[1]), int(match[2]), int(match[3], 8) & _PERMISSIONS, match[4] or "")

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}:{self.mode:o}" + (f":{self.xattrs}" if self.xattrs else "")


DIRECTORY_OWNER = Owner(0, 0, 0o755)
FILE_OWNER = Owner(0, 0, 0o644)


class ListedFile(Struct, frozen=True):
    """A file, a link or a device in a package's list."""

    name: str
    """Without its directory."""
    owner: Owner = FILE_OWNER
    checksum: str = ""
    """`Z:`, verbatim; empty where none is recorded."""

    @property
    def digest(self) -> bytes | None:
        """The checksum's 20 bytes."""
        return checksum_bytes(self.checksum) if self.checksum else None


class ApkDirectory(Struct, frozen=True):
    """A directory in a package's list; the root's path is ""."""

    path: str
    owner: Owner = DIRECTORY_OWNER
    files: tuple[ListedFile, ...] = ()

    def path_of(self, file: ListedFile) -> str:
        return f"{self.path}/{file.name}" if self.path else file.name


_ERRORS = {
    "f": "not all of its files could be put in their places",
    "s": "a script of it failed",
    "x": "not all attributes of its files could be set",
}


class ApkRecord(ApkStanza, frozen=True, kw_only=True):
    """One package, as the database has it or is to have it; its fields are the header's, with `r`, `q`, `s`, `f`."""

    directories: tuple[ApkDirectory, ...] = ()
    text: str = ""
    """As it was read, ending in a newline; empty for one that has to be written."""

    @property
    def identity_bytes(self) -> bytes:
        """What scripts and triggers are kept under: the identity however it is spelled."""
        return checksum_bytes(self.identity) or self.identity.encode("utf-8", "surrogateescape")

    @property
    def errors(self) -> tuple[str, ...]:
        """What went wrong when it was installed."""
        flags = self.fields.get("f", "")
        return tuple(words for letter, words in _ERRORS.items() if letter in flags)

    def files(self) -> Iterator[tuple[str, ListedFile]]:
        """Yield every path that is no directory, in the record's order."""
        for directory in self.directories:
            for file in directory.files:
                yield directory.path_of(file), file

    def format(self) -> str:
        """Return the text that is kept, or else the one that apk would write; without the empty line after it."""
        if self.text:
            return self.text
        lines = [format_header(self.fields)]
        for directory in self.directories:
            lines.append(f"F:{directory.path}\n")
            # apko's reader rejects a whole database for an owner of the root.
            if directory.owner != DIRECTORY_OWNER and directory.path:
                lines.append(f"M:{directory.owner}\n")
            for file in directory.files:
                lines.append(f"R:{file.name}\n")
                if file.owner != FILE_OWNER:
                    lines.append(f"a:{file.owner}\n")
                if file.checksum:
                    lines.append(f"Z:{file.checksum}\n")
        return "".join(lines)


def parse_records(data: bytes, path: str) -> tuple[ApkRecord, ...]:
    """
    Read an `installed` file; `path` is for messages. What apk's own reader would not take is an `InventoryError`.

    Bytes that are not UTF-8 are surrogate-escaped.
    """
    if data.count(b"\nR:") + data.count(b"\nF:") > _MAX_FILES:
        raise InventoryError(f"{path} lists more than {_MAX_FILES} files")
    records: list[ApkRecord] = []
    seen: set[str] = set()
    for stanza in data.decode("utf-8", "surrogateescape").split("\n\n"):
        text = stanza.strip("\n")
        if not text:
            continue
        record = _record(text, path)
        if record.name in seen:
            raise InventoryError(f"{path}: {record.name} stands there twice")
        if len(records) == _MAX_PACKAGES:
            raise InventoryError(f"{path} has more than {_MAX_PACKAGES} packages")
        seen.add(record.name)
        records.append(record)
    return tuple(records)


def _record(text: str, path: str) -> ApkRecord:
    head, start, rest = text.partition(_DIRECTORY_START)
    fields = parse_fields(head)
    name, version, architecture = fields.get("P", ""), fields.get("V", ""), fields.get("A", "")
    if not _NAME.fullmatch(name):
        raise InventoryError(f"{path}: not a package name: {name[:100]!r}")
    if not _VERSION.fullmatch(version) or (architecture and not _ARCHITECTURE.fullmatch(architecture)):
        raise InventoryError(f"{path}: {name} has the version {version[:100]!r} for {architecture[:100]!r}")
    try:
        directories = _directories(f"F:{rest}") if start else ()
    except ValueError as error:
        raise InventoryError(f"{path}: {name}: {error}") from error
    return ApkRecord(fields=fields, directories=directories, text=f"{text}\n")


def _directories(text: str) -> tuple[ApkDirectory, ...]:
    found: dict[str, ApkDirectory] = {}
    files: dict[str, list[ListedFile]] = {}
    current, name, owner, checksum = "", "", FILE_OWNER, ""

    def close() -> None:
        if name:
            files[current].append(ListedFile(name, owner, checksum))

    for line in text.split("\n"):
        letter, value = line[:1], line[2:]
        if line[1:2] != ":":
            raise ValueError(f"not a line of a file list: {line[:80]!r}")
        if letter in "FR":
            close()
            name, owner, checksum = "", FILE_OWNER, ""
            if letter == "F":
                current = _directory_path(value)
                found.setdefault(current, ApkDirectory(current))
                files.setdefault(current, [])
            else:
                name = _file_name(value)
        elif letter == "M":
            found[current] = ApkDirectory(current, Owner.parse(value))
        elif letter == "a" and name:
            owner = Owner.parse(value)
        elif letter == "Z" and name:
            checksum = value
        elif letter.isupper() or letter in "aZ":
            raise ValueError(f"not a line of a file list: {line[:80]!r}")
    close()
    return tuple(ApkDirectory(path, directory.owner, tuple(files[path])) for path, directory in found.items())


def _directory_path(text: str) -> str:
    """Return the path of an `F:` line, which is empty for the root; it must not lead elsewhere."""
    path = text.removesuffix("/")  # as apk reads it
    if path:
        for part in path.split("/"):
            _check_name(part, f"F:{text}")
    return path


def _file_name(text: str) -> str:
    """Return the name of an `R:` line."""
    _check_name(text, f"R:{text}")
    return text


def _check_name(name: str, line: str) -> None:
    if name in {"", ".", ".."} or "/" in name or _CONTROL.search(name):
        raise ValueError(f"not a path inside the image: {line[:80]!r}")
