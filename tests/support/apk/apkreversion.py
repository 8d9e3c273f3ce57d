# SPDX-License-Identifier: Apache-2.0
"""A package as it is installed in a real root, made again, mostly under a higher version: real files, real scripts."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from copacetic.oci.directory import DirectoryFilesystem
from support.apk.apkcomposed import open_database
from support.apk.apks import Apk
from support.deb.debs import Member, directory
from support.value.replacing import replace

VERSION = "99-r0"


def reversion(
    root: Path, name: str, *, files: Mapping[str, Member] | None = None, version: str = VERSION
) -> Apk | None:
    """Return the package with its own files, or others in their place; None when the root doesn't have it."""
    database = open_database(DirectoryFilesystem(root))
    package = next((p for p in database.packages() if p.name == name), None)
    if package is None:
        return None
    record = database.record(package)
    members: dict[str, Member] = {}
    for folder in record.directories:
        if folder.path:
            members[folder.path] = directory(
                folder.owner.mode, uid=folder.owner.uid, gid=folder.owner.gid, uname="", gname=""
            )
        for file in folder.files:
            path = folder.path_of(file)
            members[path] = _member(root / path, file.owner.mode, file.owner.uid, file.owner.gid)
    fields = {letter: _renumber(text, package.version, version) for letter, text in record.fields.items()}
    return Apk(
        name=name,
        version=version,
        files={**members, **(files or {})},
        scripts={name: data.decode() for name, data in database.scripts(package).items()},
        triggers=database.triggers(package),
        depends=fields.get("D", "").split(),
        provides=fields.get("p", "").split(),
        install_if=fields.get("i", "").split(),
        replaces=fields.get("r", "").split(),
        origin=fields.get("o", ""),
        provider_priority=int(fields.get("k", "0")),
        raw_order=True,
    )


def reversion_all(root: Path, *names: str) -> list[Apk]:
    """Return those of the packages that the root has; packages of one source pin each other's version."""
    return [apk for name in names if (apk := reversion(root, name)) is not None]


def repack_all(root: Path, *, without: Sequence[str] = ()) -> list[Apk]:
    """Return every package as it is, to upgrade an older root to this one; `without` those that aren't all there."""
    names = [(p.name, p.version) for p in open_database(DirectoryFilesystem(root)).packages() if p.name not in without]
    return [apk for name, version in names if (apk := reversion(root, name, version=version)) is not None]


def newer(root: Path, name: str, marked: str) -> Apk:
    """Return a newer build of a Wolfi package: one file has other bytes, and the SBOM has the new version's name."""
    apk = reversion(root, name)
    assert apk is not None
    sbom = next(path for path in apk.files if "/sbom/" in path and path.endswith(".json"))
    old = sbom.rpartition("/")[2].removeprefix(f"{name}-").removesuffix(".spdx.json")
    files = {path.replace(old, VERSION): item for path, item in apk.files.items()}
    files[marked] = replace(files[marked], content=b"\x7fELF but not quite")
    return replace(apk, files=files)


def _renumber(text: str, old: str, new: str) -> str:
    return re.sub(rf"={re.escape(old)}(?=\s|$)", f"={new}", text)


def _member(local: Path, mode: int, uid: int, gid: int) -> Member:
    info = local.lstat()
    plain = Member(mode=mode, uid=uid, gid=gid, uname="", gname="")
    if stat.S_ISLNK(info.st_mode):
        return replace(plain, type=b"2", target=os.readlink(local))
    return replace(plain, content=local.read_bytes())
