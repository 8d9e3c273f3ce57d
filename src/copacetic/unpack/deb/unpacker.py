# SPDX-License-Identifier: Apache-2.0
"""
Debian packages onto an image's tree, without running anything: the `deb` implementation of `Unpacker`.

Classifying reads control parts only. Composing spools the payloads, installs them by dpkg's rules, reproduces what
scripts and triggers derive, and writes dpkg's database last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from copacetic.budget import Slots
from copacetic.deb.deb822 import Stanza, stanza_of
from copacetic.errors import (
    ConflictError,
    UnsupportedImageError,
    about_package,
)
from copacetic.inventory import PackageDatabase
from copacetic.inventory.dpkg import DebRecord, DpkgDatabase
from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.repository.packages import file_digest
from copacetic.scripts.accounts import Accounts
from copacetic.unpack import Composition, FetchedPackage
from copacetic.unpack.deb.assess import Assessment, assess_packages, is_sliced
from copacetic.unpack.deb.install import DebInstaller, Installation
from copacetic.unpack.deb.owners import Ownership
from copacetic.unpack.deb.package import SCRIPTS, DebPackage, load_package
from copacetic.unpack.deb.payload import DebEntry, spool_payload
from copacetic.unpack.deb.reproduce import make_accounts, open_engine, reproduce
from copacetic.unpack.deb.shipped import describe_shipped
from copacetic.unpack.deb.slices import Slices
from copacetic.unpack.shipped import ShippedPackage
from copacetic.unpack.unpacker import PackageUnpacker, refuse_execution
from copacetic.updates import InstalledPackage, PackageKey, ScriptVerdict

__all__ = ["DebUnpacker"]


class DebUnpacker(PackageUnpacker[DebPackage, DebEntry]):
    """Installs .deb files."""

    def __init__(self, fs: ImageFilesystem, database: DpkgDatabase, processors: Slots) -> None:
        super().__init__(load_package, _spool, processors)
        self._fs = fs
        self._database = database
        self._assessed: dict[tuple[str, ...], Assessment] = {}

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase, processors: Slots) -> DebUnpacker:
        """Open an image that has dpkg's database."""
        if not isinstance(database, DpkgDatabase):
            raise UnsupportedImageError(f"Debian packages can't be installed into a {database.format} database")
        return cls(fs, database, processors)

    def classify(self, packages: Sequence[FetchedPackage]) -> Mapping[PackageKey, tuple[ScriptVerdict, ...]]:
        """See `Unpacker.classify`."""
        loaded = self._load(packages)
        assessment = self._assess(TreeBuilder(self._fs), loaded)
        return {package.key: assessment.verdicts.get(package.key, ()) for package in loaded}

    def compose(
        self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, epoch: int, scratch: Path
    ) -> Composition:
        """See `Unpacker.compose`. Raises `NeedsExecutionError` for a package that can't be installed this way."""
        with self._spooling(packages, scratch) as loaded:
            assessment = self._assess(tree, loaded)
            refuse_execution(assessment.verdicts.values())
            engine = open_engine(tree, self._database, loaded, epoch)
            make_accounts(engine, assessment.effects)
            payloads = self._wait(loaded)
        installed = self._install(tree, loaded, payloads)
        notes = [note for installation in installed.values() for note in installation.notes]
        reproduce(engine, assessment.effects)
        records = [self._record(tree, package, installed[package.key], payloads[package.key]) for package in loaded]
        records += self._losers(tree, installed)
        self._write_database(tree, records, epoch)
        accounts = Accounts(tree)
        return Composition(
            packages=tuple(
                describe_shipped(p, payloads[p.key], self._database, accounts, only=self._kept(p, installed[p.key]))
                for p in loaded
            ),
            notes=tuple(notes),
            checksums={p.key: self._untold(p, installed[p.key], payloads[p.key]) for p in loaded},
        )

    def shipped(self, packages: Sequence[FetchedPackage]) -> tuple[ShippedPackage, ...]:
        """See `Unpacker.shipped`."""
        accounts = Accounts(self._fs)
        found = []
        for package in self._load(packages):
            payload = spool_payload(package.archive, None, installed_size=package.installed_size)
            found.append(describe_shipped(package, payload, self._database, accounts))
        return tuple(found)

    def place(self, tree: TreeBuilder, packages: Sequence[FetchedPackage], *, scratch: Path) -> None:
        """See `Unpacker.place`."""
        with self._spooling(packages, scratch) as loaded:
            self._install(tree, loaded, self._wait(loaded), scripted=True)

    # -- inside ----------------------------------------------------------------------------------------------

    def _install(
        self,
        tree: TreeBuilder,
        packages: Sequence[DebPackage],
        payloads: Mapping[PackageKey, Sequence[DebEntry]],
        *,
        scripted: bool = False,
    ) -> Mapping[PackageKey, Installation]:
        ownership = Ownership(self._database, packages, {key: [e.path for e in p] for key, p in payloads.items()})
        installer = DebInstaller(tree, self._database, ownership, Accounts(tree), scripted=scripted)
        return {package.key: installer.install(package, payloads[package.key]) for package in packages}

    def _load(self, packages: Sequence[FetchedPackage]) -> list[DebPackage]:
        """Put them into the order of their names."""
        return sorted(super()._load(packages), key=lambda package: str(package.key))

    def _assess(self, tree: TreeBuilder, packages: Sequence[DebPackage]) -> Assessment:
        """Assess a set of packages, once."""
        key = tuple(f"{package.key} {package.version}" for package in packages)
        if key not in self._assessed:
            self._assessed[key] = assess_packages(tree, self._database, packages)
        return self._assessed[key]

    def _record(
        self, tree: TreeBuilder, package: DebPackage, installation: Installation, payload: Sequence[DebEntry]
    ) -> DebRecord:
        files = {name: data for name, data in package.control.files.items() if name != "control"}
        if "md5sums" not in files:
            files["md5sums"] = _checksums(payload, installation.files)
        sliced = is_sliced(self._database, package)
        return DebRecord(
            control=package.stanza,
            control_files=files,
            files=tuple(installation.files),
            conffiles=tuple(installation.conffiles),
            replaces=package.installed,
            sha256=file_digest(package.archive.path) if sliced else "",
            placed=Slices(tree, self._database, package).placed(payload) if sliced else {},
        )

    def _kept(self, package: DebPackage, installation: Installation) -> frozenset[str] | None:
        """Return what of a package is in the image, where its database doesn't say so by itself."""
        tells = not is_sliced(self._database, package) and not self._database.bare
        return None if tells else frozenset(installation.files)

    def _untold(
        self, package: DebPackage, installation: Installation, payload: Sequence[DebEntry]
    ) -> Mapping[str, str]:
        """
        Return the MD5 that a package gives its own files, as far as they belong into the image as it was, where the
        database in it has no such list.
        """
        sliced = is_sliced(self._database, package)
        if not sliced and not self._database.bare:
            return {}
        sums = package.md5sums
        if sums is None:
            text = _checksums(payload, [entry.path for entry in payload]).decode("utf-8", "surrogateescape")
            sums = {path: md5 for md5, _, path in (line.partition("  ") for line in split_lines(text))}
        kept = frozenset(installation.files)
        slices = Slices(TreeBuilder(self._fs), self._database, package) if sliced else None
        return {
            self._database.diverted(path, package.name): md5
            for path, md5 in sums.items()
            if path not in package.conffiles
            and not self._database.path_filters.excludes(path, directory_or_link=False)
            and (path in kept if slices is None else slices.has(path))
        }

    def _losers(self, tree: TreeBuilder, installations: Mapping[PackageKey, Installation]) -> list[DebRecord]:
        """Return the records of packages that stay, without the paths that others (by key) took over."""
        losses: dict[InstalledPackage, set[str]] = {}
        takers: dict[InstalledPackage, PackageKey] = {}
        for key, installation in installations.items():
            for owner, paths in installation.taken.items():
                if owner.installed is not None:
                    losses.setdefault(owner.installed, set()).update(paths)
                    takers[owner.installed] = key
        records = []
        for package, paths in sorted(losses.items(), key=lambda item: item[0].name):
            with about_package(takers[package]):
                records.append(self._without(tree, package, frozenset(paths)))
        return records

    def _without(self, tree: TreeBuilder, package: InstalledPackage, paths: frozenset[str]) -> DebRecord:
        files = tuple(path for path in self._database.files(package) if path not in paths)
        if all(tree.type_of(path) is FileType.DIRECTORY for path in files):
            raise ConflictError(
                f"{package.name} {package.version} would disappear: other packages have all of its files"
            )
        stanza = stanza_of(package)
        fields = {name: value for name, value in stanza.fields.items() if name != "Conffiles"}
        return DebRecord(
            control=Stanza(fields=fields, text=stanza.text),
            control_files=self._control_files(package),
            files=files,
            conffiles=tuple(
                replace(conffile, obsolete=conffile.obsolete or conffile.path in paths)
                for conffile in self._database.conffiles(package).values()
            ),
            replaces=package,
        )

    def _control_files(self, package: InstalledPackage) -> Mapping[str, bytes]:
        """Return everything that the database has in `info/` about a package, but its list."""
        folder, _, name = self._database.own_files(package)[0].rpartition("/")
        prefix = name.removesuffix("list")
        names = [other.removeprefix(prefix) for other in self._fs.iterdir(folder) if other.startswith(prefix)]
        found = {name: self._database.info(package, name) for name in names if name != "list" and "." not in name}
        return {name: data for name, data in found.items() if data is not None}

    def _write_database(self, tree: TreeBuilder, records: Sequence[DebRecord], epoch: int) -> None:
        for path, content in self._database.rewrite(records).items():
            if content is None:
                tree.remove(path)
                continue
            mode = 0o755 if path.rpartition(".")[2] in SCRIPTS and "/info/" in path else 0o644
            tree.put(path, Entry(type=FileType.FILE, mode=mode, mtime=epoch), content)


def _spool(package: DebPackage, spool: Path) -> tuple[DebEntry, ...]:
    with about_package(package.key):
        return spool_payload(package.archive, spool, installed_size=package.installed_size)


def _checksums(payload: Sequence[DebEntry], files: Sequence[str]) -> bytes:
    """Make the list of checksums that dpkg makes for a package without one."""
    by_path = {entry.path: entry for entry in payload}
    lines: list[str] = []
    for path in files:
        entry = by_path.get(path)
        while entry is not None and entry.hardlink:
            entry = by_path.get(entry.hardlink)
        if entry is not None and entry.content is not None:
            lines.append(f"{entry.content.digests['md5']}  {path}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
