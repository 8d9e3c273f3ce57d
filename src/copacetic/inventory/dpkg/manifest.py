# SPDX-License-Identifier: Apache-2.0
"""
chisel's manifest: which packages an image has slices of, and which paths they brought.

A zstd-compressed "jsonwall": a header, then one JSON object for each line, sorted. Lines that don't change stay byte
for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from copacetic.compression import DecompressionError, decompress
from copacetic.deb.deb822 import Stanza
from copacetic.errors import InventoryError
from copacetic.inventory.dpkg.rewrite import DebRecord
from copacetic.inventory.dpkg.rows import ARCHITECTURE, MAX_PACKAGES, NAME, VERSION, StanzaRow
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.updates import InstalledPackage

__all__ = ["MANIFEST", "ChiselManifest", "SlicedPath"]

MANIFEST = "var/lib/chisel/manifest.wall"
MAX_COMPRESSED = 4 * 1024 * 1024
MAX_TEXT = 16 * 1024 * 1024
"""The largest images of slices have some 10,000 paths, in 3 MB."""
MAX_LINES = 100_000
MAX_LINE = 64 * 1024
_LEVEL = 9
_HASH = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"1\.[0-9]{1,4}")
_ENDLESS = re.compile(rb"[0-9]{1000}")
"""More digits than any path has; Python takes no number of so many."""
_SLICE = re.compile(r"([a-z0-9][a-z0-9+.-]{0,127})_[a-z0-9-]{1,128}")


class _Header(msgspec.Struct):
    jsonwall: str
    count: int
    schema: str = ""


class _Package(msgspec.Struct, tag_field="kind", tag="package"):
    name: str
    version: str
    arch: str


class _Slice(msgspec.Struct, tag_field="kind", tag="slice"):
    name: str


class _Content(msgspec.Struct, tag_field="kind", tag="content"):
    slice: str
    path: str


class _Path(msgspec.Struct, tag_field="kind", tag="path"):
    path: str
    slices: list[str]
    sha256: str = ""
    final_sha256: str = ""


_Line = _Package | _Slice | _Content | _Path


class SlicedPath(Struct, frozen=True):
    """A path that slices brought, without its leading slash."""

    path: str
    sha256: str
    """Of a regular file, as its package has it; empty for everything else, and for the manifest itself."""
    final_sha256: str
    """Where chisel has changed the file afterwards."""


class ChiselManifest:
    """The manifest of one image, read."""

    def __init__(self, data: bytes) -> None:
        """Raises `InventoryError` for what is no manifest, or beyond all measure."""
        try:
            text = decompress(data, limit=MAX_TEXT, format="zstd")
        except DecompressionError as error:
            raise InventoryError(f"{MANIFEST}: {error}") from error
        self._header, *self._lines = _split(text)
        self.packages: dict[str, _Package] = {}
        self.paths: dict[str, list[SlicedPath]] = {}
        """By the package's name."""
        for number, line in enumerate(self._lines, start=2):
            try:
                self._add(_decode(line))
            except (ValueError, RecursionError) as error:
                raise InventoryError(f"{MANIFEST}: line {number}: {error}") from error

    @classmethod
    def find(cls, fs: ImageFilesystem) -> ChiselManifest | None:
        """Read an image's manifest, if it has one."""
        try:
            data = fs.read(MANIFEST, limit=MAX_COMPRESSED)
        except FileNotFoundError:
            return None
        return cls(data)

    def _add(self, line: _Line) -> None:
        if isinstance(line, _Package):
            if line.name in self.packages:
                raise ValueError(f"a second {line.name}")
            if len(self.packages) == MAX_PACKAGES:
                raise ValueError(f"more than {MAX_PACKAGES} packages")
            if not (
                NAME.fullmatch(line.name) and VERSION.fullmatch(line.version) and ARCHITECTURE.fullmatch(line.arch)
            ):
                raise ValueError(f"not a package: {line.name[:100]!r} {line.version[:100]!r} {line.arch[:100]!r}")
            self.packages[line.name] = line
        elif isinstance(line, _Path):
            for digest in (line.sha256, line.final_sha256):
                if digest and not _HASH.fullmatch(digest):
                    raise ValueError(f"not a SHA-256: {digest[:100]!r}")
            if not line.path.startswith("/") or ".." in line.path.split("/") or "\0" in line.path:
                raise ValueError(f"not a plain path: {line.path[:100]!r}")
            path = SlicedPath(line.path.strip("/"), line.sha256, line.final_sha256)
            for name in dict.fromkeys(_package_of(one) for one in line.slices):
                self.paths.setdefault(name, []).append(path)

    def complete(self, others: Sequence[StanzaRow]) -> list[StanzaRow]:
        """
        Return the packages that no other record names, as a database has them: what records say besides is in no
        manifest. Raises `InventoryError` where a record contradicts it.
        """
        named = {row.package.name: row.package for row in others if row.installed}
        rows = []
        for line in self.packages.values():
            other = named.get(line.name)
            if other is not None and other.partial and other.version != line.version:
                raise InventoryError(f"{MANIFEST} has {line.name} {line.version}, another record {other.version}")
            if other is not None:
                continue
            fields = {"Package": line.name, "Version": line.version, "Architecture": line.arch}
            package = InstalledPackage(
                name=line.name,
                version=line.version,
                architecture=line.arch,
                source_name=line.name,
                source_version=line.version,
                partial=True,
                record=Stanza(fields=fields),
            )
            rows.append(StanzaRow(package, MANIFEST, installed=True))
        return rows

    def rewrite(self, records: Iterable[DebRecord]) -> bytes | None:
        """Return the manifest with the new versions, and with what the records say of paths; None without a change."""
        updated = {record.name: record for record in records if record.name in self.packages}
        if not updated:
            return None
        entries = {path: entry for record in updated.values() for path, entry in record.placed.items()}
        lines = sorted(_rewrite(line, updated, entries) for line in self._lines)
        text = b"".join(line + b"\n" for line in (self._header, *lines))
        return _compress(text)


def _decode(line: bytes) -> _Line:
    if _ENDLESS.search(line):
        raise ValueError("a number without end")
    found: _Line = msgspec.json.decode(line, type=_Line)
    return found


def _rewrite(line: bytes, updated: Mapping[str, DebRecord], entries: Mapping[str, Entry]) -> bytes:
    decoded = _decode(line)
    if isinstance(decoded, _Package) and decoded.name in updated:
        record = updated[decoded.name]
        return _change(line, {"version": record.control.find("Version"), "sha256": record.sha256})
    entry = entries.get(decoded.path.strip("/")) if isinstance(decoded, _Path) else None
    if entry is None:
        return line
    if entry.type is FileType.SYMLINK:
        return _change(line, {"link": entry.target})
    return _change(line, {"mode": f"0{entry.mode:o}", "sha256": entry.sha256, "size": entry.size})


def _split(text: bytes) -> list[bytes]:
    lines = text.removesuffix(b"\n").split(b"\n", MAX_LINES + 1)
    if len(lines) > MAX_LINES or any(len(line) > MAX_LINE for line in lines):
        raise InventoryError(f"{MANIFEST}: more than {MAX_LINES} lines, or one of more than {MAX_LINE} bytes")
    try:
        header = msgspec.json.decode(lines[0], type=_Header)
    except (ValueError, RecursionError) as error:
        raise InventoryError(f"{MANIFEST}: line 1: {error}") from error
    if not (_VERSION.fullmatch(header.jsonwall) and _VERSION.fullmatch(header.schema)):
        found = f"jsonwall {header.jsonwall[:20]!r} with the schema {header.schema[:20]!r}"
        raise InventoryError(f"{MANIFEST}: {found}; known is 1.0")
    if header.count != len(lines):
        raise InventoryError(f"{MANIFEST}: {len(lines)} lines, where the header says {header.count}")
    return lines


def _package_of(name: str) -> str:
    match = _SLICE.fullmatch(name)
    if match is None:
        raise ValueError(f"not a slice: {name[:100]!r}")
    return match[1]


def _change(line: bytes, values: Mapping[str, Any]) -> bytes:
    """Return a line with other values, in its order of fields. Other digests of the old content go."""
    fields: dict[str, Any] = json.loads(line)
    for name in [name for name in fields if name.startswith("sha") and "sha256" in values]:
        if name not in values:
            del fields[name]
    fields.update({name: value for name, value in values.items() if name in fields and fields[name] != value})
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    # As chisel's own encoder does it, whatever shows JSON as a part of HTML.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _compress(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True).compress(data)
