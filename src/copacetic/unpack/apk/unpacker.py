# SPDX-License-Identifier: Apache-2.0
"""
apk packages onto an image's tree, without running anything: the `apk` implementation of `Unpacker`.

Packages come in the order in which apk commits them, and are installed in it. Where apk-tools itself is upgraded, apk
does that first and by itself, so everything that it does at the end of a commit is done twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from copacetic.budget import Slots
from copacetic.errors import (
    UnsupportedImageError,
)
from copacetic.inventory import PackageDatabase
from copacetic.inventory.apk import ApkChange, ApkDatabase
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.bytecode import renew_sources
from copacetic.unpack import Composition, FetchedPackage
from copacetic.unpack.apk.package import ApkPackage, load_package
from copacetic.unpack.apk.payload import ApkFileEntry, Payloads, list_payloads, spool_payload
from copacetic.unpack.apk.protected import ProtectedPaths
from copacetic.unpack.apk.shipped import describe_shipped
from copacetic.unpack.apk.upgrade import ApkUpgrade, commit_hooks
from copacetic.unpack.shipped import ShippedPackage
from copacetic.unpack.unpacker import PackageUnpacker, refuse_execution
from copacetic.updates import PackageKey, ScriptVerdict

__all__ = ["ApkUnpacker"]


class ApkUnpacker(PackageUnpacker[ApkPackage, ApkFileEntry]):
    """Installs .apk files."""

    def __init__(self, fs: ImageFilesystem, database: ApkDatabase, processors: Slots) -> None:
        super().__init__(load_package, spool_payload, processors)
        self._fs = fs
        self._database = database

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase, processors: Slots) -> ApkUnpacker:
        """Open an image that has apk's database."""
        if not isinstance(database, ApkDatabase):
            raise UnsupportedImageError(f"apk packages can't be installed into a {database.format} database")
        return cls(fs, database, processors)

    def classify(self, packages: Sequence[FetchedPackage]) -> Mapping[PackageKey, tuple[ScriptVerdict, ...]]:
        """See `Unpacker.classify`. The whole upgrade is rehearsed, as a script's effect depends on when it runs."""
        loaded = self._load(packages)
        if not self._runs_anything(loaded):
            return {package.key: () for package in loaded}
        rehearsal = ApkUpgrade(TreeBuilder(self._fs), self._fs, self._database, loaded, epoch=0, rehearsal=True)
        rehearsal.run(list_payloads(loaded, self._processors))
        return {key: tuple(verdicts) for key, verdicts in rehearsal.verdicts.items()}

    def compose(
        self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, epoch: int, scratch: Path
    ) -> Composition:
        """
        See `Unpacker.compose`. The packages are installed in the order in which they come. Raises
        `NeedsExecutionError` for a package that can't be installed this way.
        """
        upgrade, payloads = self._upgrade(tree, packages, scratch, epoch=epoch)
        refuse_execution(upgrade.verdicts.values())
        changes = [
            ApkChange(
                record=upgrade.installed[package.key].record(),
                scripts=package.scripts,
                triggers=package.triggers,
                replaces=package.installed,
            )
            for package in upgrade.packages
        ]
        files = self._database.rewrite(changes, altered=upgrade.holders.altered(), now=epoch)
        for path, content in files.items():
            tree.put(path, Entry(type=FileType.FILE, mode=0o644, mtime=epoch), content)
        renew_sources(tree)
        protected = ProtectedPaths.read(self._fs)
        return Composition(
            packages=tuple(describe_shipped(p, payloads[p.key], protected) for p in upgrade.packages),
            notes=tuple(upgrade.notes),
        )

    def shipped(self, packages: Sequence[FetchedPackage]) -> tuple[ShippedPackage, ...]:
        """See `Unpacker.shipped`."""
        loaded = self._load(packages)
        payloads = list_payloads(loaded, digests=True)
        protected = ProtectedPaths.read(self._fs)
        return tuple(describe_shipped(package, payloads[package.key], protected) for package in loaded)

    def place(self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, scratch: Path) -> None:
        """See `Unpacker.place`."""
        self._upgrade(tree, packages, scratch, epoch=0, only_files=True)

    def _upgrade(
        self,
        tree: TreeBuilder,
        packages: Sequence[FetchedPackage],
        scratch: Path,
        *,
        epoch: int,
        only_files: bool = False,
    ) -> tuple[ApkUpgrade, Payloads]:
        """Run it, and return what the packages hold, too."""
        with self._spooling(packages, scratch) as loaded:
            upgrade = ApkUpgrade(tree, self._fs, self._database, loaded, epoch=epoch, only_files=only_files)
            payloads = self._wait(loaded)
        upgrade.run(payloads)
        return upgrade, payloads

    def _runs_anything(self, packages: Sequence[ApkPackage]) -> bool:
        database = self._database
        return (
            any(package.scripts for package in packages)
            or any(database.triggers(package) for package in database.packages())
            or bool(commit_hooks(self._fs, database))
        )
