# SPDX-License-Identifier: Apache-2.0
"""
apk packages onto an image's tree, without running anything: the `apk` implementation of `Unpacker`.

Packages come in the order in which apk commits them, and are installed in it. Where apk-tools itself is upgraded, apk
does that first and by itself, so everything that it does at the end of a commit is done twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from copacetic.errors import PackageError, UnsupportedImageError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.apk import ApkChange, ApkDatabase
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.unpack import Composition, FetchedPackage
from copacetic.unpack.apk.directories import Directories
from copacetic.unpack.apk.holders import Holder, Holders
from copacetic.unpack.apk.install import Installer
from copacetic.unpack.apk.package import ApkPackage, load_package
from copacetic.unpack.apk.payload import spool_payloads
from copacetic.unpack.apk.protected import ProtectedPaths
from copacetic.unpack.tree import TreeBuilder
from copacetic.updates import ScriptVerdict

__all__ = ["ApkUnpacker"]

WORKERS = 2


class ApkUnpacker:
    """Installs .apk files."""

    def __init__(self, fs: ImageFilesystem, database: ApkDatabase) -> None:
        self._fs = fs
        self._database = database
        self._loaded: dict[Path, ApkPackage] = {}

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase) -> ApkUnpacker:
        """Open an image that has apk's database."""
        if not isinstance(database, ApkDatabase):
            raise UnsupportedImageError(f"apk packages can't be installed into a {database.format} database")
        return cls(fs, database)

    def classify(self, packages: Sequence[FetchedPackage]) -> Mapping[str, tuple[ScriptVerdict, ...]]:
        """See `Unpacker.classify`."""
        return {package.key: () for package in self._load(packages)}

    def newest_mtime(self, packages: Sequence[FetchedPackage]) -> int:
        """See `Unpacker.newest_mtime`."""
        return max((package.built for package in self._load(packages)), default=0)

    def compose(self, packages: Sequence[FetchedPackage], *, epoch: int, scratch: Path) -> Composition:
        """See `Unpacker.compose`. The packages are installed in the order in which they come."""
        loaded = self._load(packages)
        with spool_payloads(loaded, scratch, workers=WORKERS) as wait:
            tree = TreeBuilder(self._fs)
            database = self._database
            holders = Holders((Holder.of(p, database.record(p)) for p in database.packages()), database.tools)
            installer = Installer(tree, holders, ProtectedPaths.read(self._fs))
            payloads = wait()
            installed: dict[str, Holder] = {}
            for commit in _commits(loaded):
                directories = Directories(tree, holders, database.tools)
                for package in commit:
                    installed[package.key] = installer.install(package, payloads[package.key], directories)
                directories.settle()
        changes = [
            ApkChange(
                record=installed[package.key].record(),
                scripts=package.scripts,
                triggers=package.triggers,
                replaces=package.installed,
            )
            for package in loaded
        ]
        for path, content in database.rewrite(changes, altered=holders.altered(), now=epoch).items():
            tree.put(path, Entry(type=FileType.FILE, mode=0o644, mtime=epoch), content)
        return Composition(changes=tree.finish(), notes=tuple(installer.notes))

    def _load(self, packages: Sequence[FetchedPackage]) -> list[ApkPackage]:
        """Open the files, each once, in the order given."""
        found: dict[str, ApkPackage] = {}
        for fetched in packages:
            package = self._loaded.get(fetched.path)
            if package is None:
                package = self._loaded[fetched.path] = load_package(fetched)
            if package.key in found:
                raise PackageError(f"{package.key} is planned twice")
            found[package.key] = package
        return list(found.values())


def _commits(packages: Sequence[ApkPackage]) -> list[Sequence[ApkPackage]]:
    """Return what apk does in one go: first the upgrade of itself with what that needs, then the rest."""
    own = next((n for n, p in enumerate(packages) if p.name == "apk-tools" and p.installed is not None), None)
    parts = [packages] if own is None else [packages[: own + 1], packages[own + 1 :]]
    return [part for part in parts if part]
