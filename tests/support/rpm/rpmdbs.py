# SPDX-License-Identifier: Apache-2.0
"""Databases of real images, their files by path; and small ones with packages of a test's own."""

from __future__ import annotations

import lzma
import sqlite3
import tarfile
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from copacetic.inventory.rpm import RpmDatabase
from copacetic.inventory.rpm.bdbwrite import hash_file
from copacetic.inventory.rpm.index import INDEXES, IndexRules
from copacetic.inventory.rpm.ndb import NdbStore
from copacetic.inventory.rpm.ndbindex import NdbIndex
from copacetic.inventory.rpm.sqlite import SqliteStore
from copacetic.inventory.rpm.store import Contents
from copacetic.rpm import RpmEntry, RpmHeader, RpmIdentity, RpmPackage, tags
from copacetic.rpm.header import CHAR, INT16, number_entry, text_entry, texts_entry
from copacetic.rpm.installed import installed_header
from copacetic.updates import InstalledPackage
from support.image.images import fixture
from support.image.memoryfs import MemoryFilesystem

FOLDER = "var/lib/rpm"
_ROOTS = {
    "centos7": "el7/centos7-httpd-rpmdb-bdb.tar.xz",
    "alma9.0": "alma/almalinux-9.0-20220527-micro-aarch64.tar.xz",
    "alma9.3": "alma/almalinux-9-20231124-micro-aarch64.tar.xz",
    "el9": "rpm/el9/alma9-20220706-aarch64.tar.xz",
    "al2023": "rpm/al2023-hollow/root.tar.xz",
    "mariner2": "rpm/mariner2-hollow/root.tar.xz",
    "sle15": "rpm/sle15-hollow/root.tar.xz",
}
_ALONE = {
    "rocky9.2": "rpm/rpmdb/rocky-9.2-sqlite/rpmdb.sqlite.xz",
    "sles15.4": "rpm/rpmdb/sles-15.4-zypper-ndb/Packages.db.xz",
}
_COLLECTED = {
    "amazon2023": "amazonlinux2023/rpmdb.sqlite",
    "mariner": "cbl-mariner-2.0/rpmdb.sqlite",
    "bci15": "sle15-bci/Packages.db",
}
EVERY = (*_ROOTS, *_ALONE, *_COLLECTED)
SQLITE = ("alma9.3", "el9", "al2023", "mariner2", "rocky9.2", "amazon2023", "mariner")
BDB = ("centos7", "alma9.0")
NDB = ("sle15", "sles15.4", "bci15")
UPDATES = {"el9": "rpm/el9/repo-9.3", "al2023": "rpm/al2023-hollow/repo", "mariner2": "rpm/mariner2-hollow/repo"}
"""Where newer packages for some of them are."""


@lru_cache(maxsize=32)
def real_files(name: str) -> Mapping[str, bytes]:
    """The files of a real database."""
    if name in _ALONE:
        path = fixture(_ALONE[name])
        return {f"{FOLDER}/{path.name.removesuffix('.xz')}": lzma.decompress(path.read_bytes())}
    if name in _COLLECTED:
        wanted = _COLLECTED[name]
        found = _members(fixture("pkgdb/pkgdb.tar.xz"), lambda path: path == wanted)
        return {f"{FOLDER}/{path.rpartition('/')[2]}": data for path, data in found.items()}
    return _members(fixture(_ROOTS[name]), lambda path: path.rpartition("/")[0] in {FOLDER, "usr/lib/sysimage/rpm"})


def _members(archive: Path, wanted: Callable[[str], bool]) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            file = tar.extractfile(member) if member.isreg() and wanted(path) else None
            if file is not None:
                found[path] = file.read()
    return found


def open_files(files: Mapping[str, bytes | None]) -> RpmDatabase:
    """Open what is there; None stands for what isn't."""
    there = {path: data for path, data in files.items() if data is not None}
    database = RpmDatabase.detect(MemoryFilesystem(there))
    assert database is not None
    return database


def put_files(files: Mapping[str, bytes | None], folder: Path) -> Path:
    """Write a database where programs can read it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        if data is not None:
            (folder / path.rpartition("/")[2]).write_bytes(data)
    return folder


def got_files(folder: Path) -> Mapping[str, bytes]:
    """Read it again."""
    return {f"{FOLDER}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}


def sqlite_tables(data: bytes) -> dict[str, list[tuple[object, ...]]]:
    """Every table, by sqlite itself."""
    plain = bytearray(data)
    plain[18:20] = b"\1\1"  # sqlite opens nothing in memory that wants a log
    connection = sqlite3.connect(":memory:")
    connection.deserialize(bytes(plain))
    connection.text_factory = bytes
    names = [name.decode() for (name,) in connection.execute("select name from sqlite_master where type='table'")]
    names = [name for name in names if name != "sqlite_stat1"]  # what sqlite has noted for its own guesses
    return {name: connection.execute(f"select * from '{name}'").fetchall() for name in names}


# -- packages of a test's own ----------------------------------------------------------------------------------------


def make_header(
    name: str, evr: str = "1-1", arch: str = "x86_64", *more: RpmEntry, files: Iterable[str] = ()
) -> RpmHeader:
    """An installed package; its files are regular, and root's."""
    epoch, _, rest = evr.rpartition(":")
    version, _, release = rest.partition("-")
    paths = [path.rpartition("/") for path in files]
    folders = sorted({f"{folder}/" for folder, _, _ in paths})
    entries = [
        text_entry(tags.NAME, name),
        text_entry(tags.VERSION, version),
        text_entry(tags.RELEASE, release),
        *([number_entry(tags.EPOCH, [int(epoch)])] if epoch else []),
        *([text_entry(tags.ARCH, arch)] if arch else []),
        *([text_entry(tags.SOURCE_RPM, f"{name}-{rest}.src.rpm")] if arch else []),  # else rpm takes it for a source
        text_entry(tags.GROUP, "Unspecified"),
        text_entry(tags.OS, "linux"),
    ]
    if paths:
        count = len(paths)
        entries += [
            texts_entry(tags.BASE_NAMES, [base for _, _, base in paths]),
            texts_entry(tags.DIRECTORY_NAMES, folders),
            number_entry(tags.DIRECTORY_INDEXES, [folders.index(f"{folder}/") for folder, _, _ in paths]),
            number_entry(tags.FILE_MODES, [0o100644] * count, INT16),
            texts_entry(tags.FILE_DIGESTS, ["ab" * 32] * count),
            number_entry(tags.FILE_DIGEST_ALGORITHM, [8]),
            number_entry(tags.FILE_FLAGS, [0] * count),
            texts_entry(tags.FILE_USERS, ["root"] * count),
            texts_entry(tags.FILE_GROUPS, ["root"] * count),
        ]
    given = {entry.tag for entry in more}
    added = [number_entry(tags.INSTALL_TIME, [1_700_000_000]), number_entry(tags.INSTALL_TID, [1_700_000_000])]
    if paths and tags.FILE_STATES not in given:
        added.append(number_entry(tags.FILE_STATES, [0] * len(paths), CHAR))
    own = [entry for entry in more if entry.tag != tags.FILE_STATES]
    added += [entry for entry in more if entry.tag == tags.FILE_STATES]
    return RpmHeader.build([*(one for one in entries if one.tag not in given), *own]).with_entries(added)


def make_files(kind: str, headers: Iterable[RpmHeader], highest: int = 0) -> dict[str, bytes]:
    """A database with these packages, numbered from 1."""
    numbered = dict(enumerate(headers, 1))
    highest = max([highest, *numbered])
    contents = Contents({}, 0)
    if kind == "sqlite":
        path = f"{FOLDER}/rpmdb.sqlite"
        files = SqliteStore(path, contents, INDEXES, ()).write(numbered, highest, IndexRules())
    elif kind == "ndb":
        index = NdbIndex(f"{FOLDER}/Index.db", tuple(INDEXES.values()))
        files = NdbStore(f"{FOLDER}/Packages.db", contents, 1, index).write(numbered, highest, IndexRules())
    else:
        word = {"bdb": "little", "bdb-big": "big"}[kind]
        records = {number.to_bytes(4, word): header.blob for number, header in numbered.items()}  # type: ignore[arg-type]
        records[bytes(4)] = highest.to_bytes(4, word)  # type: ignore[arg-type]
        first = {f"{FOLDER}/Packages": hash_file(records, "<" if kind == "bdb" else ">", 4096)}
        beside = {f"{FOLDER}/{name}": b"" for name in INDEXES}
        files = open_files(first | beside).rewrite((), ()) if numbered else first
    return {path: data for path, data in files.items() if data is not None}


KINDS = ("sqlite", "ndb", "bdb", "bdb-big")


def named(database: RpmDatabase, name: str) -> InstalledPackage:
    return next(package for package in database.packages() if package.name == name)


# -- updates ---------------------------------------------------------------------------------------------------------


def newer_packages(database: RpmDatabase, repository: str) -> dict[str, tuple[Path, RpmPackage, InstalledPackage]]:
    """Packages of a folder that replace installed ones, by what they are called."""
    installed = {(package.name, package.architecture): package for package in database.packages()}
    found: dict[str, tuple[Path, RpmPackage, InstalledPackage]] = {}
    for path in sorted(fixture(repository).rglob("*.rpm")):
        with path.open("rb") as file:
            package = RpmPackage.read(file)
        identity = RpmIdentity.of(package.header)
        old = installed.get((identity.name, identity.architecture))
        if old is not None and old.version != identity.evr:
            found[str(identity)] = path, package, old
    return found


def as_rpm_installed(
    before: RpmDatabase, after: RpmDatabase, newer: Mapping[str, tuple[Path, RpmPackage, InstalledPackage]]
) -> tuple[list[RpmHeader], list[InstalledPackage]]:
    """What `rewrite` has to be given to do what rpm did: times and states are rpm's, all else is from the packages."""
    known = {record.number for record in before.records}
    added, removed = [], []
    for record in after.records:
        if record.number not in known:
            said = record.header
            _, package, old = newer[str(RpmIdentity.of(said))]
            installed = installed_header(
                package,
                states=said.numbers(tags.FILE_STATES),
                color=before.color,
                time=said.number(tags.INSTALL_TIME) or 0,
                transaction=said.number(tags.INSTALL_TID) or 0,
                release=before.rpm_release,
            )
            added.append(installed)
            removed.append(old)
    return added, removed
