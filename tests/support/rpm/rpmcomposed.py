# SPDX-License-Identifier: Apache-2.0
"""rpm packages composed onto a local root, and held against the real rpm's work on a copy of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from copacetic.budget import Slots
from copacetic.inventory.rpm import RpmDatabase
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack import FetchedPackage
from copacetic.unpack.rpm import RpmUnpacker
from support.deb.composed import Composed, apply_changes, compose_alone
from support.deb.oracle import Node, read_tree
from support.rpm.rpmoracle import DATABASE, fetched


def open_database(fs: ImageFilesystem) -> RpmDatabase:
    database = RpmDatabase.detect(fs)
    assert database is not None
    return database


def open_unpacker(fs: ImageFilesystem) -> RpmUnpacker:
    return RpmUnpacker.open(fs, open_database(fs), Slots("test", 2))


def plan_rpms(fs: ImageFilesystem, rpms: Sequence[Path]) -> list[FetchedPackage]:
    """Plan to install package files, each over the installed package of its name and architecture."""
    installed = {(package.name, package.architecture): package for package in open_database(fs).packages()}
    planned = []
    for path in rpms:
        key = fetched(path).key
        planned.append(fetched(path, installed.get((key.name, key.architecture))))
    return planned


def compose(fs: ImageFilesystem, rpms: Sequence[Path], scratch: Path) -> Composed:
    """Compose packages onto an image's tree."""
    return compose_alone(open_unpacker(fs), TreeBuilder(fs), plan_rpms(fs, rpms), scratch)


def compose_onto(root: Path, rpms: Sequence[Path], scratch: Path) -> Composed:
    """Compose packages onto a local root, and change it accordingly, times of modification included."""
    composition = compose(DirectoryFilesystem(root), rpms, scratch)
    apply_changes(composition.changes, root)
    for change in composition.changes.entries:
        if change.entry is not None:
            os.utime(root / change.path, (change.entry.mtime,) * 2, follow_symlinks=False)
    return composition


def unlike(real: Path, ours: Path, *, ignored: Iterable[str] = ()) -> dict[str, tuple[Node | None, Node | None]]:
    """Return the paths at which two roots differ, apart from rpm's database, with what each has."""
    left, right = read_tree(real), read_tree(ours)
    skipped = (*DATABASE, *ignored)
    return {
        path: (left.get(path), right.get(path))
        for path in sorted(left.keys() | right.keys())
        if left.get(path) != right.get(path) and not path.startswith(skipped)
    }
