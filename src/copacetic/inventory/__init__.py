# SPDX-License-Identifier: Apache-2.0
"""
Package databases, read without running anything.

A database is one module: a class with `detect`, which the row of its family names (`families`), with the directories
where it may be: only the one that an image has is imported.

Rewriting a database gives files with their bytes; nothing is written here, and nobody here knows repositories or plans.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from typing import Protocol

from copacetic import families
from copacetic.errors import InventoryError
from copacetic.loader import load
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.updates import Finding, InstalledPackage

__all__ = ["PackageDatabase", "detect_databases", "find_again"]


class PackageDatabase(Protocol):
    """What an image says is installed."""

    @property
    def package_type(self) -> str:
        """As in a purl: deb, apk, rpm."""
        ...

    @property
    def format(self) -> str:
        """For people: `dpkg status`, `dpkg status.d`, …"""
        ...

    @property
    def path(self) -> str:
        """The file or directory that holds it."""
        ...

    @property
    def native_architecture(self) -> str:
        """The architecture of packages that name none, in the package manager's spelling."""
        ...

    @property
    def checksum_algorithm(self) -> str:
        """That of most files' `checksums`, as `hashlib` calls it."""
        ...

    @property
    def version_scheme(self) -> str:
        """The name in `Family.schemes` of the order in which this image's package manager has versions."""
        ...

    @classmethod
    def detect(cls, fs: ImageFilesystem) -> PackageDatabase | None:
        """Open the image's database of this kind, or return None. Raises `InventoryError` when it is broken."""
        ...

    def packages(self) -> tuple[InstalledPackage, ...]:
        """Return the packages that are installed, sorted by their keys."""
        ...

    def is_meant(self, package: InstalledPackage, architecture: str) -> bool:
        """Tell whether a finding about an architecture may be about a package that has its name."""
        ...

    def is_fixed(self, package: InstalledPackage, finding: Finding) -> bool:
        """
        Tell whether a package has a finding's fix, in the order that the image's package manager has. Its repositories
        use the same rule. Raises `InvalidVersionError` for versions that can't be compared.
        """
        ...

    def files(self, package: InstalledPackage) -> tuple[str, ...]:
        """Return the package's paths as its own list spells them, without the leading slash."""
        ...

    def own_files(self, package: InstalledPackage) -> tuple[str, ...]:
        """
        Return paths that come and go with exactly this version: the database's own files about the package, or,
        where the database is one file, the package's regular files. Where they lie tells which layer installed it.
        """
        ...

    def checksums(self, package: InstalledPackage) -> Mapping[str, tuple[str, str]]:
        """
        Return what the database says about the content of the package's files: path → (algorithm of `hashlib`,
        lower-case hexadecimal digest, which may be cut to its first digits). Paths are where the files are, wherever
        something has put them. Configuration files, which a user may change, are left out, and so is what the image's
        own settings keep out of it.
        """
        ...

    def bare_paths(self, package: InstalledPackage) -> tuple[str, ...]:
        """
        Return the paths that have to be there though `checksums` says nothing of them, because there is nothing to
        say: directories, and where the database keeps no checksums of them, links. Paths are where they really are.
        """
        ...

    def place(self, path: str, package: str) -> str:
        """Return where a package's file really is that is listed as `path`, links of the image aside."""
        ...

    def describes(self, path: str, packages: Collection[str]) -> bool | None:
        """
        Tell whether a canonical path is one that the package manager itself writes when packages with these names
        change: None for what isn't the database's, and False for what it has about other packages.
        """
        ...

    def is_configuration(self, path: str, package: InstalledPackage) -> bool:
        """Tell whether a package's file is one that is there to be changed."""
        ...

    def grants(self, path: str, owner: tuple[int, int, int]) -> bool:
        """Tell whether packages' records give a directory, by its canonical path, this user, group and mode."""
        ...

    def assumed(self) -> tuple[InstalledPackage, ...]:
        """
        Return packages whose files are in the image though the database in effect doesn't list them: they count for
        dependencies, and are never changed.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about the database itself, as sentences."""
        ...

    def broken_dependencies(self) -> frozenset[str]:
        """Return, as sentences, what the installed set lacks or has too much of by its own metadata."""
        ...


def detect_databases(fs: ImageFilesystem, own: str = "") -> tuple[PackageDatabase, ...]:
    """
    Return the image's package databases, each of another family. The first is the distribution's own, which has
    packages of the type `own` if any has.

    Raises `InventoryError` when that one is broken. Others, which somebody may have copied, are left out then.
    """
    found: dict[str, PackageDatabase] = {}
    for family in sorted(families.FAMILIES, key=lambda family: family.package_type != own):
        for row in family.databases:
            if family.package_type in found or not any(fs.lookup(folder) for folder in row.places):
                continue
            with suppress(InventoryError) if found else nullcontext():
                database: PackageDatabase | None = load(row.entry).detect(fs)
                if database is not None:
                    found[family.package_type] = database
    return tuple(found.values())


def find_again(database: PackageDatabase, fs: ImageFilesystem) -> PackageDatabase | None:
    """Return what another state of the image has for a database, None when that is gone. Raises `InventoryError`."""
    return type(database).detect(fs)
