# SPDX-License-Identifier: Apache-2.0
"""apk packages and repositories (v2) made by hand, so that they can be as odd or as hostile as a test wants."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.deb.debs import MTIME, Member

ARCHITECTURE = "x86_64"
CHECKSUM = "APK-TOOLS.checksum.SHA1"


Item = tuple[str, Member, Mapping[str, str]]
"""A path, what is there, and its pax records."""


def q1(data: bytes) -> str:
    """Return apk's spelling of a SHA-1."""
    return "Q1" + base64.b64encode(hashlib.sha1(data).digest()).decode()


def member(entries: Iterable[Item], *, last: bool) -> bytes:
    """Return one gzip member with a piece of a tar stream."""
    parts: list[bytes] = []
    for path, item, records in entries:
        info = tarfile.TarInfo(path)
        info.type, info.linkname = item.type, item.target
        info.mode, info.uid, info.gid = item.mode, item.uid, item.gid
        info.uname, info.gname, info.mtime = item.uname, item.gname, item.mtime
        info.devmajor, info.devminor = item.device
        info.size = len(item.content)
        info.pax_headers = dict(records)
        parts.append(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        parts.append(item.content + bytes(-len(item.content) % 512))
    return gzip.compress(b"".join(parts) + bytes(1024 * last), 1, mtime=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apk:
    """A package; the directories of its paths are added, with 0755 of root's."""

    name: str = "demo"
    version: str = "1-r0"
    files: Mapping[str, Member] = field(default_factory=dict)
    xattrs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    triggers: Sequence[str] = ()
    depends: Sequence[str] = ()
    provides: Sequence[str] = ()
    install_if: Sequence[str] = ()
    replaces: Sequence[str] = ()
    replaces_priority: int = 0
    provider_priority: int = 0
    origin: str = ""
    architecture: str = ARCHITECTURE
    raw_order: bool = False
    """Take the files as they stand: no directories are added, nothing is sorted."""
    alter: Callable[[list[Item]], None] | None = None
    """Change the payload's entries last, to make them wrong."""

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.apk"

    def entries(self) -> list[Item]:
        """Return the payload, each entry with its pax records."""
        found: dict[str, Member] = {}
        for path, item in self.files.items() if self.raw_order else sorted(self.files.items()):
            parts = path.split("/")
            for depth in range(1, 0 if self.raw_order else len(parts)):
                above = "/".join(parts[:depth])
                found.setdefault(above, self.files.get(above, Member(type=tarfile.DIRTYPE, mode=0o755)))
            found[path] = item
        entries: list[Item] = [(path, item, self._records(path, item)) for path, item in found.items()]
        if self.alter is not None:
            self.alter(entries)
        return entries

    def _records(self, path: str, item: Member) -> dict[str, str]:
        records = {f"SCHILY.xattr.{name}": value for name, value in self.xattrs.get(path, {}).items()}
        if item.type == tarfile.REGTYPE:
            records[CHECKSUM] = hashlib.sha1(item.content).hexdigest()
        elif item.type == tarfile.SYMTYPE:
            records[CHECKSUM] = hashlib.sha1(item.target.encode()).hexdigest()
        return records

    @property
    def installed_size(self) -> int:
        return max(1, sum(len(item.content) for item in self.files.values())) if self.files else 0

    def control(self, data: bytes) -> bytes:
        lines = [
            f"pkgname = {self.name}",
            f"pkgver = {self.version}",
            "pkgdesc = a package for tests",
            "url = ",
            f"builddate = {MTIME}",
            f"size = {self.installed_size}",
            f"arch = {self.architecture}",
            f"origin = {self.origin or self.name}",
            "license = MIT",
        ]
        for key in ("depend", "provides", "install_if", "replaces"):
            values = self.depends if key == "depend" else getattr(self, key)
            lines += [f"{key} = {value}" for value in values]
        if self.replaces_priority:
            lines.append(f"replaces_priority = {self.replaces_priority}")
        if self.provider_priority:
            lines.append(f"provider_priority = {self.provider_priority}")
        if self.triggers:
            lines.append(f"triggers = {' '.join(self.triggers)}")
        lines.append(f"datahash = {hashlib.sha256(data).hexdigest()}")
        text = "".join(f"{line}\n" for line in lines).encode()
        scripts: list[Item] = [
            (f".{name}", Member(content=body.encode(), mode=0o755), {}) for name, body in self.scripts.items()
        ]
        return member([(".PKGINFO", Member(content=text), {}), *scripts], last=False)

    def to_bytes(self, sign: Callable[[bytes], bytes] | None = None) -> bytes:
        """Return the file; `sign` returns what goes in front of the control part."""
        data = member(self.entries(), last=True)
        control = self.control(data)
        return (sign(control) if sign is not None else b"") + control + data

    def row(self) -> dict[str, str]:
        """Return the index's row, by letter."""
        data = member(self.entries(), last=True)
        control = self.control(data)
        row = {
            "C": q1(control),
            "P": self.name,
            "V": self.version,
            "A": self.architecture,
            "S": str(len(control) + len(data)),
            "I": str(self.installed_size),
            "T": "a package for tests",
            "U": "",
            "L": "MIT",
            "o": self.origin or self.name,
            "t": str(MTIME),
        }
        if self.provider_priority:
            row["k"] = str(self.provider_priority)
        for letter, values in (("D", self.depends), ("p", self.provides), ("i", self.install_if)):
            if values:
                row[letter] = " ".join(values)
        return row

    def write(self, folder: Path) -> Path:
        path = folder / self.file_name
        path.write_bytes(self.to_bytes())
        return path


def write_repository(folder: Path, apks: Iterable[Apk], *, architecture: str = ARCHITECTURE) -> Path:
    """Write an unsigned repository; returns the folder that its address names."""
    below = folder / architecture
    below.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    for apk in apks:
        apk.write(below)
        rows.append("".join(f"{letter}:{value}\n" for letter, value in apk.row().items()))
    index = "".join(f"{row}\n" for row in rows).encode()
    entry: Item = ("APKINDEX", Member(content=index), {})
    (below / "APKINDEX.tar.gz").write_bytes(member([entry], last=True))
    return folder


def read_index(folder: Path, *, architecture: str = ARCHITECTURE) -> dict[str, dict[str, str]]:
    """Return the rows of a repository by package name, unverified."""
    plain = gzip.decompress((folder / architecture / "APKINDEX.tar.gz").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(plain), ignore_zeros=True) as tar:
        text = next(tar.extractfile(m).read() for m in tar if m.name == "APKINDEX")  # type: ignore[union-attr]
    rows: dict[str, dict[str, str]] = {}
    for stanza in text.decode().split("\n\n"):
        row = {line[0]: line[2:] for line in stanza.splitlines() if line[1:2] == ":"}
        if row:
            rows[row["P"]] = row
    return rows
