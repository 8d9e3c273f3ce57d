# SPDX-License-Identifier: Apache-2.0
"""Packages composed onto a local root: what a test plans, and the changes as files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from copacetic.budget import Slots
from copacetic.deb.deb822 import parse_stanza
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.inventory.dpkg.archive import DebArchive
from copacetic.oci.change import Change, Changes
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack import Composition, FetchedPackage, Unpacker
from copacetic.unpack.deb import DebUnpacker
from copacetic.updates import Candidate, Origin, PlannedUpdate

EPOCH = 1_700_000_000


class Composed(Composition, frozen=True, kw_only=True):
    """What became of packages in a tree of their own."""

    changes: Changes


def plan_debs(fs: ImageFilesystem, debs: Sequence[Path]) -> list[FetchedPackage]:
    """Plan to install package files, each over the installed package of its name and architecture."""
    database = DpkgDatabase.detect(fs)
    assert database is not None
    planned: list[FetchedPackage] = []
    for path in debs:
        stanza = parse_stanza(DebArchive.open(path).read_control().files["control"].decode())
        name, version, architecture = (stanza.find(field) for field in ("Package", "Version", "Architecture"))
        candidate = Candidate(
            name=name,
            version=version,
            architecture=architecture,
            source_name=name,
            source_version=version,
            url="",
            size=path.stat().st_size,
            sha256="",
            origin=Origin(uri="https://example.com", suite="test", component="main"),
            record=stanza,
        )
        same = [p for p in database.packages() if p.name == name]
        exact = [p for p in same if p.architecture == architecture]
        replaced = exact or [p for p in same if "all" in (p.architecture, architecture)]
        update = PlannedUpdate(installed=replaced[0] if replaced else None, candidate=candidate)
        planned.append(FetchedPackage(update=update, path=path))
    return planned


def open_unpacker(fs: ImageFilesystem) -> DebUnpacker:
    database = DpkgDatabase.detect(fs)
    assert database is not None
    return DebUnpacker.open(fs, database, Slots("test", 2))


def compose(fs: ImageFilesystem, debs: Sequence[Path], scratch: Path) -> Composed:
    """Compose packages onto an image's tree."""
    return compose_alone(open_unpacker(fs), TreeBuilder(fs), plan_debs(fs, debs), scratch)


def compose_alone(
    unpacker: Unpacker, tree: TreeBuilder, packages: Sequence[FetchedPackage], scratch: Path, *, epoch: int = EPOCH
) -> Composed:
    """Compose packages onto a tree that nobody else changes."""
    scratch.mkdir(parents=True)
    made = unpacker.compose(tree, packages, epoch=epoch, scratch=scratch)
    return Composed(changes=tree.finish(), packages=made.packages, notes=made.notes, checksums=made.checksums)


def compose_onto(root: Path, debs: Sequence[Path], scratch: Path) -> Composed:
    """Compose packages onto a local root, and change it accordingly."""
    composition = compose(DirectoryFilesystem(root), debs, scratch)
    apply_changes(composition.changes, root)
    return composition


def apply_changes(changes: Changes, root: Path) -> None:
    """Do to a local root what a layer with these changes would."""
    for change in changes.entries:
        path = root / change.path
        if change.entry is None:
            _remove(path)
        elif change.hardlink:
            _remove(path)
            os.link(root / change.hardlink, path)
        else:
            _make(change, path)


def _make(change: Change, path: Path) -> None:
    entry = change.entry
    assert entry is not None
    if entry.type is FileType.DIRECTORY:
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()
    else:
        _remove(path)
        if entry.type is FileType.SYMLINK:
            path.symlink_to(entry.target)
        elif entry.type is FileType.CHARACTER_DEVICE:
            os.mknod(path, stat.S_IFCHR | entry.mode, os.makedev(*entry.device))
        else:
            path.write_bytes(read_content(change))
    os.lchown(path, entry.uid, entry.gid)
    if entry.type is not FileType.SYMLINK:
        path.chmod(entry.mode)
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in entry.xattrs:
            os.removexattr(path, name, follow_symlinks=False)
    for name, value in entry.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)


def read_content(change: Change) -> bytes:
    if isinstance(change.content, bytes):
        return change.content
    assert change.content is not None
    with change.content.path.open("rb") as file:
        file.seek(change.content.offset)
        return file.read(change.content.size)


def copy_root(source: Path, target: Path) -> Path:
    """Copy a root with owners, links and attributes."""
    subprocess.run(["cp", "--archive", source, target], check=True)
    return target


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
