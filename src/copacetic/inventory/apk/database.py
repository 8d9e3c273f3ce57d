# SPDX-License-Identifier: Apache-2.0
"""
apk's database, read from an image: Alpine, Wolfi, Chainguard, with an apk in it or without.

apk looks for `lib/apk/db`, which an image with a merged /usr resolves to `usr/lib/apk/db`; apko writes there, too.
An image put together from several bases may have one database on top of another: the upper one is in effect, and
what only the lower one lists counts as present, but is never touched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING

from copacetic.apk.closure import broken_dependencies
from copacetic.apk.dependency import DependencyError
from copacetic.apk.stanza import stanza_of
from copacetic.apk.tools import ApkTools
from copacetic.errors import InventoryError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.apk.installed import ApkRecord, parse_records
from copacetic.inventory.apk.scripts import (
    ScriptFile,
    compress_scripts,
    format_world,
    parse_triggers,
    read_scripts,
)
from copacetic.inventory.earlier import Versions, earlier_versions
from copacetic.oci.filesystem import FileType, ImageFilesystem, hidden_versions
from copacetic.updates import Finding, InstalledPackage

if TYPE_CHECKING:
    from copacetic.inventory.apk.rewrite import ApkChange

FOLDERS = ("lib/apk/db", "usr/lib/apk/db")
WORLD = "etc/apk/world"
ARCHITECTURE = "etc/apk/arch"
_ARCHITECTURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}")
INSTALLED_LIMIT = 64 * 1024 * 1024
FILE_LIMIT = 64 * 1024 * 1024
CONFIGURATION = "etc/"
OWN_CONFIGURATION = "etc/apk/"
"""Keys and repositories: nobody's to change."""
APKO_BUILD = "etc/apko.json"
_LISTED = frozenset("RMaZ")
"""Lines of a file list, which begins with a directory."""
MAX_NAMED = 8


class ApkDatabase:
    """`PackageDatabase` of apk."""

    package_type = "apk"
    checksum_algorithm = "sha1"

    def __init__(self, fs: ImageFilesystem, path: str, records: Sequence[ApkRecord], *, ended: bool = True) -> None:
        """`ended` says whether the file ends with a line's end."""
        self._fs = fs
        self._ended = ended
        self.path = path
        """Of the `installed` file, canonical."""
        self.records = tuple(records)
        """In the file's order."""
        self.tools = ApkTools.of(records)
        """The installed apk-tools, if any."""
        self._by_package = {self._package(record): record for record in records}

    @classmethod
    def detect(cls, fs: ImageFilesystem) -> ApkDatabase | None:
        for folder in FOLDERS:
            path = fs.resolve(f"{folder}/installed")
            try:
                data = fs.read(path, limit=INSTALLED_LIMIT)
            except FileNotFoundError:
                continue
            records = parse_records(data, path)
            if records:
                return cls(fs, path, records, ended=data.endswith(b"\n"))
        return None

    @property
    def format(self) -> str:
        return "apk installed"

    @property
    def version_scheme(self) -> str:
        return self.tools.version_scheme

    @property
    def folder(self) -> str:
        """The canonical directory of `installed`, `scripts.tar` and `triggers`."""
        return self.path.rpartition("/")[0]

    def packages(self) -> tuple[InstalledPackage, ...]:
        return tuple(sorted(self._by_package, key=lambda p: p.key))

    def assumed(self) -> tuple[InstalledPackage, ...]:
        """Packages that only databases list which are not in effect, and of which files are still there."""
        return tuple(self._assumed)

    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes())

    def is_meant(self, package: InstalledPackage, architecture: str) -> bool:
        return package.architecture in {architecture, "noarch"}

    def is_fixed(self, package: InstalledPackage, finding: Finding) -> bool:
        return self.tools.is_fixed(package, finding)

    def files(self, package: InstalledPackage) -> tuple[str, ...]:
        """Directories and files, in the order of the package's own list."""
        paths: list[str] = []
        for directory in self.record(package).directories:
            paths.append(directory.path)
            paths += [directory.path_of(file) for file in directory.files]
        return tuple(paths)

    def own_files(self, package: InstalledPackage) -> tuple[str, ...]:
        return tuple(path for path, _ in self.record(package).files())

    def checksums(self, package: InstalledPackage) -> Mapping[str, tuple[str, str]]:
        record = self.record(package)
        algorithm = "sha256" if record.cut_sha256 else self.checksum_algorithm
        return {
            path: (algorithm, file.digest.hex())
            for path, file in record.files()
            if file.digest is not None and not path.startswith(CONFIGURATION)
        }

    def bare_paths(self, package: InstalledPackage) -> tuple[str, ...]:
        return tuple(directory.path for directory in self.record(package).directories if directory.path)

    def place(self, path: str, package: str) -> str:
        return path

    def describes(self, path: str, packages: Collection[str]) -> bool | None:
        own = {self.path, f"{self.folder}/triggers", self._scripts_path, self._fs.resolve(WORLD), self.folder}
        own |= {f"{self.folder}/scripts.tar", f"{self.folder}/scripts.tar.gz"}
        return True if path in own else None

    def is_configuration(self, path: str, package: InstalledPackage) -> bool:
        return path.startswith(CONFIGURATION) and not path.startswith(OWN_CONFIGURATION)

    def grants(self, path: str, owner: tuple[int, int, int]) -> bool:
        """One record's owner and mode (apk 3), or an owner's and what all records with that one permit (apk 2)."""
        name = path.rpartition("/")[2]
        records = (one for record in self.records for one in record.directories if one.path.endswith(name))
        listed = [one.owner for one in records if one.path == path or self._fs.resolve(one.path) == path]
        modes = [one.mode for one in listed if (one.uid, one.gid) == owner[:2]]
        return bool(modes) and (owner[2] in modes or owner[2] == reduce(and_, modes))

    def broken_dependencies(self) -> frozenset[str]:
        try:
            present, assumed = ([stanza_of(one) for one in side] for side in (self.packages(), self.assumed()))
            return frozenset(broken_dependencies(present, assumed, self.world, self.version_scheme))
        except DependencyError as error:
            raise InventoryError(f"{self.path}: {error}") from error

    def broken(self) -> tuple[InstalledPackage, ...]:
        """Return the packages whose installation had errors; apk counts each of them whenever it is run."""
        return tuple(package for package in self.packages() if self.record(package).errors)

    def record(self, package: InstalledPackage) -> ApkRecord:
        """Return a package's header and file list; also of an assumed one."""
        known = self._by_package.get(package)
        return self._assumed[package] if known is None else known

    def scripts(self, package: InstalledPackage) -> Mapping[str, bytes]:
        """Return the installed scripts by name (post-install, trigger, …)."""
        identity = self.record(package).identity_bytes
        return self._scripts.scripts.get(identity, {})

    def triggers(self, package: InstalledPackage) -> tuple[str, ...]:
        """Return the patterns of directories for which the package's trigger is called."""
        identity = self.record(package).identity_bytes
        return tuple(word for line in self._triggers_by_identity.get(identity, ()) for word in line.split()[1:])

    @property
    def _has_world(self) -> bool:
        return self._read(WORLD) is not None

    @cached_property
    def world(self) -> str:
        """The dependencies that the administrator asked for, as the file has them."""
        return (self._read(WORLD) or b"").decode("utf-8", "surrogateescape")

    @cached_property
    def native_architecture(self) -> str:
        """As `etc/apk/arch` says, or else what most packages are for. Raises `InventoryError` for what is no name."""
        named = (self._read(ARCHITECTURE) or b"").decode("utf-8", "replace").split()
        if named:
            return _architecture(named[0], ARCHITECTURE)
        counts = Counter(record.fields.get("A", "") for record in self.records)
        del counts["noarch"], counts[""]
        return _architecture(max(sorted(counts), key=lambda name: counts[name], default="noarch"), self.path)

    def rewrite(
        self, changes: Sequence[ApkChange], *, altered: Mapping[InstalledPackage, ApkRecord], now: int
    ) -> Mapping[str, bytes]:
        """
        Return the database's files after an upgrade, by canonical path; those that apk would leave alone are absent.

        `changes` are in the order in which apk commits them; `altered` are packages that stay and lost files to
        others. `now` (seconds) is what apk < 2.14.1 records in `scripts.tar`.
        """
        from copacetic.inventory.apk.rewrite import Rewrite

        by_name = {package.name: record for package, record in altered.items()}
        new = Rewrite(self.records, self._scripts, self._triggers, changes, altered=by_name, now=now)
        files = {
            self.path: new.installed(),
            f"{self.folder}/triggers": new.triggers(),
            self._scripts_path: new.scripts(),
        }
        if self._scripts_path.endswith(".gz"):
            files[self._scripts_path] = compress_scripts(files[self._scripts_path])
        if self.tools.installed and self._has_world:  # an empty one says that nothing is wanted, and apk removes it all
            files[self._fs.resolve(WORLD)] = format_world(self.world).encode("utf-8", "surrogateescape")
        return files

    def _package(self, record: ApkRecord) -> InstalledPackage:
        return InstalledPackage(
            name=record.name,
            version=record.version,
            architecture=record.fields.get("A") or self.native_architecture,
            source_name=record.origin or record.name,
            source_version=record.version,
            record=record,
        )

    @cached_property
    def earlier(self) -> Versions:
        """What the databases of lower layers tell; see `earlier_versions`."""
        before = [self._versions(parse_records(data, self.path)) for data in self._lower(self.path)]
        return earlier_versions(self._versions(self.records), before)

    def _versions(self, records: Iterable[ApkRecord]) -> Versions:
        return {package.key: package.version for package in map(self._package, records)}

    def _lower(self, path: str) -> tuple[bytes, ...]:
        return hidden_versions(self._fs, path, limit=INSTALLED_LIMIT)

    @cached_property
    def _assumed(self) -> Mapping[InstalledPackage, ApkRecord]:
        return {self._package(record): record for record, _ in self._hidden.values()}

    @cached_property
    def _hidden(self) -> Mapping[str, tuple[ApkRecord, str]]:
        """What only databases list that are not in effect, and whose files are there: by name, with why they aren't."""
        found: dict[str, tuple[ApkRecord, str]] = {}
        effective = {record.name for record in self.records}
        for data, path, reason in self._other_databases():
            rows = [record for record in parse_records(data, path) if record.name not in effective]
            alive = [record for record in rows if self._is_alive(record)]
            if any(any(record.files()) for record in alive):
                found.update({record.name: (record, reason) for record in alive})
        return {name: found[name] for name in sorted(found)}

    def _other_databases(self) -> Iterator[tuple[bytes, str, str]]:
        """Yield the bytes of each database that is not in effect, what to call it, and why it isn't."""
        places = [f"{folder}/installed" for folder in FOLDERS]
        for path in dict.fromkeys((self.path, *places)):
            for data in self._lower(path):
                yield data, f"{path} of a lower layer", "hides the database of a lower layer"
        for path in sorted({self._fs.resolve(place) for place in places} - {self.path}):
            with suppress(FileNotFoundError):
                yield self._fs.read(path, limit=INSTALLED_LIMIT), path, f"is in effect, and not {path}"

    def _is_alive(self, record: ApkRecord) -> bool:
        """
        Whether any of its files is still in the image; one without files can't tell, and follows the others.

        Files that were deleted prove nothing: images are thinned out. Nor do some that stayed: what packages in effect
        have taken over is theirs, and configuration outlives a package that was removed.
        """
        own = [path for path, _ in record.files()]
        there = [path for path in own if self._fs.lookup(path, follow=False) is not None]
        left = (path for path in there if self._canonical(path) not in self._claimed)
        if all(path.startswith(CONFIGURATION) for path in own):
            return list(left) == own
        return any(not path.startswith(CONFIGURATION) for path in left)

    @cached_property
    def _claimed(self) -> frozenset[str]:
        """The canonical paths of the files of all packages in effect."""
        return frozenset(self._canonical(path) for record in self.records for path, _ in record.files())

    def _canonical(self, path: str) -> str:
        return self._fs.resolve(path, follow=False)

    def _notes(self) -> Iterator[str]:
        for reason in dict.fromkeys(reason for _, reason in self._hidden.values()):
            hidden = [name for name, (_, other) in self._hidden.items() if other == reason]
            shown = ", ".join(hidden[:MAX_NAMED]) + (" …" if len(hidden) > MAX_NAMED else "")
            yield (
                f"{self.path} {reason}: {shown} "
                f"{'is' if len(hidden) == 1 else 'are'} taken for installed, and can't be updated"
            )
        if self.tools.installed and not self._has_world:
            yield f"{WORLD} is missing: every package counts as wanted here, and apk itself refuses to change anything"
        for package in self.broken():
            what = " and ".join(self.record(package).errors)
            yield f"{package.name} {package.version} has been broken since it was installed: {what} (f: in {self.path})"
        yield from self._refused()
        if self._fs.lookup(APKO_BUILD) is not None:
            yield f"{APKO_BUILD} says what the image was built from, and doesn't follow updates"

    def _refused(self) -> Iterator[str]:
        """Say what the image's own apk doesn't take, and this reader does."""
        misplaced = [record.name for record in self.records if not _LISTED.isdisjoint(record.fields)]
        if misplaced and self.tools.installed:
            yield (
                f"{self.path}: {misplaced[0]} has files without a directory, so the image's own apk refuses the whole "
                "database; it is updated all the same"
            )
        if not self._ended and self.tools.is_apk3:
            yield (
                f"{self.path} doesn't end with a line's end, so the image's own apk doesn't see "
                f"{self.records[-1].name}; it counts as installed here"
            )

    @cached_property
    def _scripts_path(self) -> str:
        compressed = f"{self.folder}/scripts.tar.gz"
        plain = f"{self.folder}/scripts.tar"
        if self._fs.lookup(plain) is None and (self.tools.is_apk3 or self._fs.lookup(compressed) is not None):
            return compressed
        return plain

    @cached_property
    def _scripts(self) -> ScriptFile:
        data = self._read(self._scripts_path)
        return read_scripts(data, self._scripts_path) if data is not None else ScriptFile({}, {})

    @cached_property
    def _triggers(self) -> list[tuple[bytes | None, str]]:
        return parse_triggers((self._read(f"{self.folder}/triggers") or b"").decode("utf-8", "surrogateescape"))

    @cached_property
    def _triggers_by_identity(self) -> Mapping[bytes | None, list[str]]:
        found: dict[bytes | None, list[str]] = {}
        for identity, line in self._triggers:
            found.setdefault(identity, []).append(line)
        return found

    def _read(self, path: str) -> bytes | None:
        entry = self._fs.lookup(path)
        if entry is None or entry.type is not FileType.FILE:
            return None
        return self._fs.read(path, limit=FILE_LIMIT)


def _architecture(name: str, path: str) -> str:
    """Return a name that can be part of an address."""
    if not _ARCHITECTURE_NAME.fullmatch(name):
        raise InventoryError(f"{path} names an architecture that is none: {name[:80]!r}")
    return name


_: type[PackageDatabase] = ApkDatabase
