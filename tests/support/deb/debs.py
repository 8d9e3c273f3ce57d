# SPDX-License-Identifier: Apache-2.0
"""Debian packages made by hand, byte by byte, so that they can be as odd or as hostile as a test wants."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

MTIME = 1_700_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An entry of a payload; `type` is one of tarfile's type bytes."""

    type: bytes = tarfile.REGTYPE
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: str = "root"
    gname: str = "root"
    target: str = ""
    device: tuple[int, int] = (0, 0)
    mtime: int = MTIME


def file(content: bytes | str = b"", mode: int = 0o644, **attributes: object) -> Member:
    data = content.encode() if isinstance(content, str) else content
    return Member(content=data, mode=mode, **attributes)  # type: ignore[arg-type]


def directory(mode: int = 0o755, **attributes: object) -> Member:
    return Member(type=tarfile.DIRTYPE, mode=mode, **attributes)  # type: ignore[arg-type]


def symlink(target: str) -> Member:
    return Member(type=tarfile.SYMTYPE, mode=0o777, target=target)


def hardlink(target: str) -> Member:
    return Member(type=tarfile.LNKTYPE, target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """A package; parents of its paths are added, and `md5sums` unless there are some or None is asked for."""

    name: str = "demo"
    version: str = "1.0"
    architecture: str = "all"
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Member] = field(default_factory=dict)
    conffiles: Sequence[str] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)
    control: Mapping[str, str] = field(default_factory=dict)
    """More files of the control part."""
    md5sums: bool = True
    compression: str = "xz"

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"
        path.write_bytes(self.to_bytes())
        return path

    def to_bytes(self) -> bytes:
        return archive(self.control_members(), self.data_members(), self.compression)

    def control_members(self) -> list[tuple[str, Member]]:
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "Nobody <nobody@example.com>",
            **self.fields,
            "Description": "a package for tests",
        }
        members = [
            ("./", directory()),
            ("./control", file("".join(f"{k}: {v}\n" for k, v in fields.items()))),
        ]
        if self.conffiles:
            members.append(("./conffiles", file("".join(f"{path}\n" for path in self.conffiles))))
        if self.md5sums:
            sums = "".join(
                f"{hashlib.md5(member.content).hexdigest()}  {path}\n"
                for path, member in sorted(self.files.items())
                if member.type == tarfile.REGTYPE and f"/{path}" not in self.conffiles
            )
            members.append(("./md5sums", file(sums)))
        members += [(f"./{name}", file(text)) for name, text in self.control.items()]
        members += [(f"./{name}", file(text, 0o755)) for name, text in self.scripts.items()]
        return members

    def data_members(self) -> list[tuple[str, Member]]:
        found: dict[str, Member] = {"./": directory()}
        for path, member in self.files.items():
            parts = path.split("/")
            for depth in range(1, len(parts)):
                found.setdefault("./" + "/".join(parts[:depth]) + "/", directory())
            found[f"./{path}" + ("/" if member.type == tarfile.DIRTYPE else "")] = member
        links = {path: member for path, member in found.items() if member.type == tarfile.LNKTYPE}
        return [*((p, m) for p, m in sorted(found.items()) if p not in links), *sorted(links.items())]


def archive(
    control: Sequence[tuple[str, Member]], data: Sequence[tuple[str, Member]], compression: str = "xz"
) -> bytes:
    """Return the package's bytes."""
    suffix, compress = _COMPRESSIONS[compression]
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            (f"control.tar{suffix if compression != 'bzip2' else '.xz'}", _control(control, compression)),
            (f"data.tar{suffix}", compress(tar(data))),
        ]
    )


def _control(members: Sequence[tuple[str, Member]], compression: str) -> bytes:
    return _COMPRESSIONS["xz" if compression == "bzip2" else compression][1](tar(members))


def ar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Return an ar archive as dpkg-deb writes it."""
    parts = [b"!<arch>\n"]
    for name, content in members:
        header = f"{name:<16}{MTIME:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        parts += [header.encode(), content, b"\n" if len(content) % 2 else b""]
    return b"".join(parts)


def tar(members: Sequence[tuple[str, Member]], *, format: int = tarfile.GNU_FORMAT) -> bytes:  # noqa: A002
    """Return a tar archive with exactly these entries in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as target:
        for path, member in members:
            info = tarfile.TarInfo(path)
            info.type = member.type
            info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
            info.uname, info.gname, info.mtime = member.uname, member.gname, member.mtime
            info.linkname = member.target
            info.devmajor, info.devminor = member.device
            info.size = len(member.content)
            target.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


_COMPRESSIONS: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "none": ("", lambda data: data),
    "gzip": (".gz", lambda data: gzip.compress(data, 1, mtime=0)),
    "xz": (".xz", lambda data: lzma.compress(data, preset=0)),
    "zstd": (".zst", lambda data: zstandard.ZstdCompressor().compress(data)),
    "bzip2": (".bz2", lambda data: bz2.compress(data, 1)),
}
