# SPDX-License-Identifier: Apache-2.0
"""
Packages in, changes of a tree out: the embedded engine, which runs nothing of the image.

An unpacker is one module per package format, which the row of its family names (`families`). It judges maintainer
scripts, and makes the changes that the distribution's own package manager would make, in a tree that several
unpackers may share. Nothing is written but into that tree and the scratch folder; the layer is made of it elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from copacetic.budget import Slots
from copacetic.families import family_of
from copacetic.inventory import PackageDatabase
from copacetic.loader import load
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack.shipped import ShippedPackage
from copacetic.updates import FetchedPackage, PackageKey, ScriptVerdict

__all__ = ["Composition", "FetchedPackage", "Unpacker", "open_unpacker"]


class Composition(Struct, frozen=True, kw_only=True):
    """What is to be known of packages besides what they did to the tree."""

    packages: tuple[ShippedPackage, ...] = ()
    """What the packages say of their files."""
    notes: tuple[str, ...] = ()
    """Decisions a user wants to know: `kept etc/foo.conf, which was changed in the image`."""
    checksums: Mapping[PackageKey, Mapping[str, str]] = {}
    """
    What packages say of their own files where the image's database keeps no checksums: path → digest, of the
    database's algorithm.
    """


class Unpacker(Protocol):
    """Installs packages of one format into an image's tree, without running them."""

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase, processors: Slots) -> Unpacker: ...

    def classify(self, packages: Sequence[FetchedPackage]) -> Mapping[PackageKey, tuple[ScriptVerdict, ...]]:
        """Judge every script of the packages, old and new; reads only their control parts."""
        ...

    def newest_mtime(self, packages: Sequence[FetchedPackage]) -> int:
        """Return when the newest of the packages was built, as its own control part says: the default epoch."""
        ...

    def spool(self, packages: Sequence[FetchedPackage], scratch: Path) -> None:
        """
        Begin in the background with what `compose` does first, for the same `scratch`, with all packages or with some
        at a time. Raises only for packages that can't be opened; `compose` raises the rest. It has to be closed.
        """
        ...

    def close(self) -> None:
        """Give up what `spool` began: nothing is written to its `scratch` any more. `compose` does it, too."""
        ...

    def compose(
        self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, epoch: int, scratch: Path
    ) -> Composition:
        """
        Make the changes in a tree over `fs`. A pure function of the packages, the epoch and what it reads through
        both.

        `epoch` is the modification time, in seconds, of what is generated rather than unpacked. `scratch` is a
        private empty directory in which payloads are spooled; the tree refers to files in it.
        """
        ...

    def place(self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, scratch: Path) -> None:
        """
        Put the packages' files in place in a tree and take away those of their old versions, as `compose` does, and
        nothing else: no script is followed, and the database stays as it is.
        """
        ...

    def shipped(self, packages: Sequence[FetchedPackage]) -> tuple[ShippedPackage, ...]:
        """
        Return what packages say of their files, for a layer that something else makes of them: one after the other,
        so that it can be done beside that.
        """
        ...


def open_unpacker(fs: ImageFilesystem, database: PackageDatabase, processors: Slots) -> Unpacker:
    """Return the unpacker that goes with the image's package database; it decompresses in these slots."""
    unpacker: Unpacker = load(family_of(database.package_type).unpacker).open(fs, database, processors)
    return unpacker
