# SPDX-License-Identifier: Apache-2.0
"""
rpm packages onto an image's tree, without running anything: the `rpm` implementation of `Unpacker`.

Packages come in the order in which rpm would install them, and are installed in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from copacetic.budget import Slots
from copacetic.errors import PackageError, UnsupportedImageError, about_package
from copacetic.inventory import PackageDatabase
from copacetic.inventory.rpm import RpmDatabase
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.rpm import HeaderError, RpmHeader
from copacetic.rpm.installed import installed_header
from copacetic.scripts.accounts import Accounts
from copacetic.unpack import Composition, FetchedPackage
from copacetic.unpack.rpm.package import OpenedRpm, load_package
from copacetic.unpack.rpm.payload import RpmFileEntry, digest_payload, rehearse_payload, spool_payload
from copacetic.unpack.rpm.shipped import describe_shipped
from copacetic.unpack.rpm.transaction import Payloads, RpmImage, RpmTransaction
from copacetic.unpack.shipped import ShippedPackage
from copacetic.unpack.unpacker import PackageUnpacker, refuse_execution
from copacetic.updates import PackageKey, ScriptVerdict

__all__ = ["RpmUnpacker"]


class RpmUnpacker(PackageUnpacker[OpenedRpm, RpmFileEntry]):
    """Installs .rpm files."""

    def __init__(self, fs: ImageFilesystem, database: RpmDatabase, processors: Slots) -> None:
        super().__init__(load_package, spool_payload, processors)
        self._fs = fs
        self._database = database
        self._image = RpmImage(fs, database)

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase, processors: Slots) -> RpmUnpacker:
        """Open an image that has rpm's database."""
        if not isinstance(database, RpmDatabase):
            raise UnsupportedImageError(f"rpm packages can't be installed into a {database.format} database")
        return cls(fs, database, processors)

    def classify(self, packages: Sequence[FetchedPackage]) -> Mapping[PackageKey, tuple[ScriptVerdict, ...]]:
        """See `Unpacker.classify`. The whole transaction is rehearsed, as a script's effect depends on when it runs."""
        loaded = self._load(packages)
        rehearsal = RpmTransaction(TreeBuilder(self._fs), self._image, loaded, epoch=0, rehearsal=True)
        rehearsal.run({package.key: rehearse_payload(package) for package in loaded})
        return {key: tuple(verdicts) for key, verdicts in rehearsal.verdicts.items()}

    def compose(
        self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, epoch: int, scratch: Path
    ) -> Composition:
        """
        See `Unpacker.compose`. The packages are installed in the order in which they come. Raises
        `NeedsExecutionError` for a package that can't be installed this way.
        """
        transaction, payloads = self._install(tree, packages, scratch, epoch=epoch)
        refuse_execution(transaction.verdicts.values())
        self._write_database(tree, transaction, epoch)
        accounts = Accounts(tree)
        decisions = transaction.decisions.by_key
        return Composition(
            packages=tuple(describe_shipped(decisions[key], payload, accounts) for key, payload in payloads.items()),
            notes=tuple(transaction.notes),
        )

    def shipped(self, packages: Sequence[FetchedPackage]) -> tuple[ShippedPackage, ...]:
        """See `Unpacker.shipped`."""
        loaded = self._load(packages)
        transaction = RpmTransaction(TreeBuilder(self._fs), self._image, loaded, epoch=0, only_files=True)
        transaction.decisions.decide(loaded)
        accounts = Accounts(self._fs)
        decisions = transaction.decisions.by_key
        return tuple(describe_shipped(decisions[p.key], digest_payload(p), accounts) for p in loaded)

    def place(self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, scratch: Path) -> None:
        """See `Unpacker.place`."""
        self._install(tree, packages, scratch, epoch=0, only_files=True)

    # -- inside ----------------------------------------------------------------------------------------------

    def _install(
        self,
        tree: TreeBuilder,
        packages: Sequence[FetchedPackage],
        scratch: Path,
        *,
        epoch: int,
        only_files: bool = False,
    ) -> tuple[RpmTransaction, Payloads]:
        """Do a transaction, and return what the packages hold, too."""
        with self._spooling(packages, scratch) as loaded:
            transaction = RpmTransaction(tree, self._image, loaded, epoch=epoch, only_files=only_files)
            payloads = self._wait(loaded)
        transaction.run(payloads)
        return transaction, payloads

    def _write_database(self, tree: TreeBuilder, transaction: RpmTransaction, epoch: int) -> None:
        """Record the new packages in the place of the old ones, in the files that the image has."""
        database = self._database
        replaced = [package.installed for package in transaction.packages if package.installed is not None]
        added = [self._record(transaction, package, epoch) for package in transaction.packages]
        for path, content in database.rewrite(added, replaced).items():
            if content is None:
                tree.remove(path)
                continue
            present = tree.lookup(path)
            entry = Entry(type=FileType.FILE, mode=0o644, mtime=epoch)
            if present is not None and present.type is FileType.FILE:
                entry = Entry(type=FileType.FILE, mode=present.mode, uid=present.uid, gid=present.gid, mtime=epoch)
            tree.put(path, entry, content)

    def _record(self, transaction: RpmTransaction, package: OpenedRpm, epoch: int) -> RpmHeader:
        with about_package(package.key):
            try:
                return installed_header(
                    package.file,
                    states=list(transaction.decisions.by_key[package.key].states()),
                    color=self._database.color,
                    time=epoch,
                    transaction=epoch,
                    release=self._database.rpm_release,
                )
            except HeaderError as error:
                raise PackageError(f"{package.label}: {error}") from error
