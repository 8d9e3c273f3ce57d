# SPDX-License-Identifier: Apache-2.0
"""apk packages composed onto a local root, in the order in which the real apk committed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from copacetic.apk.stanza import ApkStanza
from copacetic.budget import Slots
from copacetic.inventory.apk import ApkDatabase
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack import FetchedPackage
from copacetic.unpack.apk import ApkUnpacker
from copacetic.updates import Candidate, Origin, PlannedUpdate
from support.deb.composed import EPOCH, Composed, apply_changes, compose_alone


def open_database(fs: ImageFilesystem) -> ApkDatabase:
    database = ApkDatabase.detect(fs)
    assert database is not None
    return database


def plan_apks(fs: ImageFilesystem, rows: Sequence[tuple[Mapping[str, str], Path]]) -> list[FetchedPackage]:
    """Plan to install package files, given with their rows of an index, in this order."""
    present = {package.name: package for package in open_database(fs).packages()}
    planned: list[FetchedPackage] = []
    for row, path in rows:
        candidate = Candidate(
            name=row["P"],
            version=row["V"],
            architecture=row["A"],
            source_name=row.get("o", row["P"]),
            source_version=row["V"],
            url="",
            size=path.stat().st_size,
            sha256="",
            origin=Origin(uri="https://example.com", suite="", component=""),
            record=ApkStanza(row),
        )
        planned.append(
            FetchedPackage(update=PlannedUpdate(installed=present.get(row["P"]), candidate=candidate), path=path)
        )
    return planned


def open_unpacker(fs: ImageFilesystem) -> ApkUnpacker:
    return ApkUnpacker.open(fs, open_database(fs), Slots("test", 2))


def compose(
    fs: ImageFilesystem, rows: Sequence[tuple[Mapping[str, str], Path]], scratch: Path, *, epoch: int = EPOCH
) -> Composed:
    """Compose packages onto an image's tree."""
    return compose_alone(open_unpacker(fs), TreeBuilder(fs), plan_apks(fs, rows), scratch, epoch=epoch)


def compose_onto(
    root: Path, rows: Sequence[tuple[Mapping[str, str], Path]], scratch: Path, *, epoch: int = EPOCH
) -> Composed:
    """Compose packages onto a local root, and change it accordingly."""
    composition = compose(DirectoryFilesystem(root), rows, scratch, epoch=epoch)
    apply_changes(composition.changes, root)
    return composition
