# SPDX-License-Identifier: Apache-2.0
"""
rpm's database, read from an image without rpm, whatever its format; see `locate` for where it is.

Several versions of a package may be installed at the same time (a kernel, a key that is trusted): what tells them
apart then is their version.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from copacetic.errors import InventoryError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.rpm.bdb import ENVIRONMENT, PACKAGES
from copacetic.inventory.rpm.index import INDEXES, IndexRules
from copacetic.inventory.rpm.locate import backend_of, find_store
from copacetic.inventory.rpm.manifest import ManifestStore
from copacetic.inventory.rpm.ndb import FILES as NDB_FILES
from copacetic.inventory.rpm.record import RpmRecord, record_of
from copacetic.inventory.rpm.sqlite import FILES as SQLITE_FILES
from copacetic.inventory.rpm.store import RpmStore
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm import tags
from copacetic.rpm.closure import broken_dependencies
from copacetic.rpm.files import DIGEST_ALGORITHMS, FileFlag, FileState, RpmFile, VerifyFlag, check_files, file_paths
from copacetic.rpm.fix import is_fixed
from copacetic.rpm.header import HeaderError, RpmHeader
from copacetic.rpm.identity import NO_ARCHITECTURE, RpmIdentity, source_of
from copacetic.strict import read_digits
from copacetic.updates import Finding, InstalledPackage

MANAGER = "rpm"
"""The package whose version says which rpm the image has."""
MAX_VALUES = 100_000
BYTES_FOR_VALUE = 32
"""Names of files and dependencies cost many times their bytes: so many more may be there for each of these."""
_COUNTED = (*INDEXES.values(), tags.OLD_FILE_NAMES)
_LOCKS = frozenset({".rpm.lock", ".dbenv.lock", ".migratedb", ".rpmdbdirsymlink_created"})
_OWN = frozenset({*SQLITE_FILES, *NDB_FILES, PACKAGES, *INDEXES, *_LOCKS})
_THERE = frozenset({FileState.NORMAL, FileState.NET_SHARED})
_NOWHERE = frozenset({"noarch", NO_ARCHITECTURE})
_DIGEST = re.compile(r"(?:[0-9a-f]{2})+")
_RELEASE = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_NEWEST = (4, 20)
_ACCOUNT_LIMIT = 16 * 1024 * 1024


class RpmDatabase:
    """`PackageDatabase` of rpm. Headers are checked when it is opened; files are read when they are asked for."""

    package_type = "rpm"
    version_scheme = "rpm"

    def __init__(self, fs: ImageFilesystem, store: RpmStore, unused: Sequence[str] = ()) -> None:
        """`unused` are other databases, which rpm doesn't look into. Raises `InventoryError`."""
        self._fs = fs
        self._store = store
        self._unused = tuple(unused)
        self.records = tuple(self._records())
        """In the order of their numbers."""
        self._packages = tuple(sorted(self._named(), key=lambda package: package.key))

    @classmethod
    def detect(cls, fs: ImageFilesystem) -> RpmDatabase | None:
        found = find_store(fs)
        return None if found is None else cls(fs, *found)

    @property
    def format(self) -> str:
        return self._store.format

    @property
    def path(self) -> str:
        return self._store.path

    @property
    def backend(self) -> str:
        """The format, as `%_db_backend` calls it; empty where rpm itself wouldn't find its packages in it."""
        return backend_of(self.path)

    @property
    def lists_files(self) -> bool:
        """Whether it says which files are whose, and what packages need; a manifest says neither."""
        return not isinstance(self._store, ManifestStore)

    def packages(self) -> tuple[InstalledPackage, ...]:
        return self._packages

    def assumed(self) -> tuple[InstalledPackage, ...]:
        return ()

    def notes(self) -> tuple[str, ...]:
        return (*self._store.notes(), *(f"{self.path} is in effect, and not {path}" for path in self._unused))

    def is_meant(self, package: InstalledPackage, architecture: str) -> bool:
        return package.architecture in {architecture, "noarch"}

    def is_fixed(self, package: InstalledPackage, finding: Finding) -> bool:
        return is_fixed(package, finding)

    def files(self, package: InstalledPackage) -> tuple[str, ...]:
        """Without those that were not installed, or are another package's by now."""
        header = record_of(package).header
        states = header.numbers(tags.FILE_STATES)
        try:
            paths = file_paths(header)
        except HeaderError as error:
            raise InventoryError(f"{self.path}: {package.name}: {error}") from error
        if not any(states):
            return paths
        return tuple(path for path, state in zip(paths, states, strict=True) if state in _THERE)

    def own_files(self, package: InstalledPackage) -> tuple[str, ...]:
        if not self.lists_files:
            return (self.path,)
        return tuple(file.path for file in _present(package) if file.is_regular and not file.has(FileFlag.GHOST))

    def checksums(self, package: InstalledPackage) -> Mapping[str, tuple[str, str]]:
        return {file.path: (file.algorithm, file.digest) for file in _packed(package) if _is_checked(file)}

    def bare_paths(self, package: InstalledPackage) -> tuple[str, ...]:
        return tuple(
            file.path
            for file in _packed(package)
            if file.path and not _is_checked(file) and (file.is_regular or file.is_directory or file.is_link)
        )

    def place(self, path: str, package: str) -> str:
        return path

    def describes(self, path: str, packages: Collection[str]) -> bool | None:
        folder, _, name = path.rpartition("/")
        if not self.lists_files:
            return True if folder == self._folder else None
        if path == self._folder or (folder == self._folder and (name in _OWN or name.startswith(ENVIRONMENT))):
            return True
        return None

    def is_configuration(self, path: str, package: InstalledPackage) -> bool:
        return any(file.path == path and file.has(FileFlag.CONFIG) for file in _present(package))

    def grants(self, path: str, owner: tuple[int, int, int]) -> bool:
        name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
        for package in self._packages:
            if name not in record_of(package).header.raw_texts(tags.BASE_NAMES):
                continue
            for file in _present(package):
                is_it = file.path == path or (
                    file.path.endswith(path.rpartition("/")[2]) and self._fs.resolve(file.path) == path
                )
                if is_it and file.is_directory and self._owner(file) == owner:
                    return True
        return False

    def broken_dependencies(self) -> frozenset[str]:
        if not self.lists_files:
            return frozenset()
        try:
            headers = [record.header for record in self.records]
            return frozenset(broken_dependencies(headers, lambda path: self._fs.resolve(path, follow=False)))
        except HeaderError as error:
            raise InventoryError(f"{self.path}: {error}") from error

    @cached_property
    def native_architecture(self) -> str:
        """What most packages are for."""
        counts = Counter(package.architecture for package in self._packages)
        names = sorted(counts.keys() - _NOWHERE)
        return max(names, key=lambda name: counts[name], default="noarch")

    @cached_property
    def checksum_algorithm(self) -> str:
        counts = Counter(r.header.number(tags.FILE_DIGEST_ALGORITHM) or 1 for r in self.records if _has_files(r.header))
        known = (number for number, _ in counts.most_common() if number in DIGEST_ALGORITHMS)
        return DIGEST_ALGORITHMS[next(known, 8)]

    @cached_property
    def rpm_release(self) -> tuple[int, int]:
        """
        Of the rpm that the image has, or where it has none, that most of its packages were built with: rpm writes some
        of its database by rules that have changed.
        """
        own = [record.header.text(tags.VERSION) for record in self.records if record.header.text(tags.NAME) == MANAGER]
        built = Counter(record.header.text(tags.RPM_VERSION) for record in self.records)
        del built[""]
        for text in (*own, *(text for text, _ in built.most_common())):
            match = _RELEASE.match(text)
            if match is not None:
                return int(match[1]), int(match[2])
        return _NEWEST

    @cached_property
    def color(self) -> int | None:
        """What packages have as the color of the system that they were installed in; None where none has one."""
        counts = Counter(color for r in self.records if (color := r.header.number(tags.INSTALL_COLOR)) is not None)
        return max(sorted(counts), key=lambda color: counts[color], default=None)

    def record(self, package: InstalledPackage) -> RpmRecord:
        return record_of(package)

    def rewrite(
        self,
        added: Sequence[RpmHeader],
        removed: Collection[InstalledPackage],
        altered: Mapping[InstalledPackage, RpmHeader] | None = None,
    ) -> Mapping[str, bytes | None]:
        """
        Return the database's files after an upgrade, by canonical path; None stands for one that has to go.

        `added` are headers as installed (`rpm.installed`), in the order in which rpm would install them; `altered` are
        packages that stay and have another header, as one that lost files.
        """
        headers = {record.number: record.header for record in self.records}
        for package, header in (altered or {}).items():
            headers[record_of(package).number] = header
        for package in removed:
            del headers[record_of(package).number]
        highest = self._store.contents.highest
        for header in added:
            highest += 1
            headers[highest] = header
        return self._store.write(headers, highest, IndexRules.of(self.rpm_release, self.native_architecture))

    @property
    def _folder(self) -> str:
        return self.path.rpartition("/")[0]

    def _records(self) -> Iterator[RpmRecord]:
        values = MAX_VALUES
        for number, blob in self._store.contents.headers.items():
            try:
                header = RpmHeader(blob)
                check_files(header)
                RpmIdentity.of(header)
            except HeaderError as error:
                raise InventoryError(f"{self.path}: package {number}: {error}") from error
            values += len(blob) // BYTES_FOR_VALUE - sum(map(header.count, _COUNTED))
            if values < 0:
                raise InventoryError(f"{self.path}: its packages have too many names for their size")
            yield RpmRecord(header, number)

    def _named(self) -> Iterator[InstalledPackage]:
        identities = [RpmIdentity.of(record.header) for record in self.records]
        names = Counter((one.name, one.architecture) for one in identities)
        seen: Counter[RpmIdentity] = Counter()
        for identity, record in zip(identities, self.records, strict=True):
            several = names[identity.name, identity.architecture] > 1
            again = f"#{seen[identity]}" if seen[identity] else ""
            seen[identity] += 1
            source = source_of(record.header) or (identity.name, identity.evr)
            yield InstalledPackage(
                name=identity.name,
                version=identity.evr,
                architecture=identity.architecture,
                source_name=source[0],
                source_version=source[1],
                instance=f"{identity.evr}{again}" if several else "",
                record=record,
            )

    def _owner(self, file: RpmFile) -> tuple[int, int, int]:
        """A name that the image doesn't have is root's, as rpm takes it."""
        return self._users.get(file.user, 0), self._groups.get(file.group, 0), file.permissions

    @cached_property
    def _users(self) -> Mapping[str, int]:
        return _numbers(self._fs, "etc/passwd")

    @cached_property
    def _groups(self) -> Mapping[str, int]:
        return _numbers(self._fs, "etc/group")


def _present(package: InstalledPackage) -> Iterator[RpmFile]:
    return (file for file in record_of(package).files if file.state in _THERE)


def _packed(package: InstalledPackage) -> Iterator[RpmFile]:
    """What has to be there, as the package has it."""
    optional = FileFlag.GHOST | FileFlag.CONFIG | FileFlag.MISSING_OK
    return (file for file in _present(package) if not file.flags & optional)


def _is_checked(file: RpmFile) -> bool:
    """Whether its content has to be what the package says."""
    has_digest = bool(file.algorithm) and _DIGEST.fullmatch(file.digest) is not None
    return file.is_regular and has_digest and bool(file.verify & VerifyFlag.DIGEST)


def _has_files(header: RpmHeader) -> bool:
    return tags.FILE_DIGESTS in header and any(map(stat.S_ISREG, header.numbers(tags.FILE_MODES)))


def _numbers(fs: ImageFilesystem, path: str) -> Mapping[str, int]:
    """Read the first and third column of a file of accounts."""
    try:
        text = fs.read(path, limit=_ACCOUNT_LIMIT).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = ""
    found: dict[str, int] = {}
    for line in split_lines(text):
        row = line.split(":")
        number = read_digits(row[2], most=10) if len(row) > 2 else None
        if number is not None:
            found.setdefault(row[0], number)
    return found


_: type[PackageDatabase] = RpmDatabase
