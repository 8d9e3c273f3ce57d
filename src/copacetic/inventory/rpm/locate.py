# SPDX-License-Identifier: Apache-2.0
"""
Where an image's database is, and which of several it is.

rpm looks in `%_dbpath` for the format that `%_db_backend` names, and if it isn't there for any other. Distributions
have moved the folder, and left a link in its old place or not; others have changed the format, and left files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from copacetic.errors import InventoryError
from copacetic.inventory.rpm.bdb import PACKAGES, BdbStore
from copacetic.inventory.rpm.manifest import ManifestStore
from copacetic.inventory.rpm.ndb import FILES as NDB_FILES
from copacetic.inventory.rpm.ndb import NdbStore
from copacetic.inventory.rpm.sqlite import FILES as SQLITE_FILES
from copacetic.inventory.rpm.sqlite import SqliteStore
from copacetic.inventory.rpm.store import RpmStore
from copacetic.oci.filesystem import FileType, ImageFilesystem

__all__ = ["FOLDERS", "backend_of", "find_store"]

FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
"""Of most; of Fedora, EL 10 and SUSE; of images that are trees of ostree."""
_FORMATS: tuple[tuple[str, str, Callable[[ImageFilesystem, str], RpmStore | None]], ...] = (
    ("sqlite", SQLITE_FILES[0], SqliteStore.open),
    ("ndb", NDB_FILES[0], NdbStore.open),
    ("bdb", PACKAGES, BdbStore.open),
)
"""What `%_db_backend` calls them, the file that is there when one is, and its reader."""
_MACRO = re.compile(r"%(_dbpath|_db_backend)[ \t]+(\S+)[ \t]*")
_KNOWN_MACROS = {"%{_var}": "/var", "%{_localstatedir}": "/var", "%{_usr}": "/usr", "%{_prefix}": "/usr"}
_MACRO_FILE_LIMIT = 1024 * 1024


class _Place(Struct, frozen=True):
    folder: str
    """Canonical."""
    backend: str
    file: str
    open: Callable[[ImageFilesystem, str], RpmStore | None]


def find_store(fs: ImageFilesystem) -> tuple[RpmStore, tuple[str, ...]] | None:
    """
    Return the database that rpm would use, and the paths of others that it wouldn't; None where there is none with a
    package. Raises `InventoryError` for a broken one, and where nothing tells which of several it is.
    """
    places = list(_places(fs))
    chosen = _preferred(fs, places) if len(places) > 1 else places
    stores = [store for place in chosen if (store := place.open(fs, place.folder)) and store.contents.headers]
    if len(stores) > 1:
        paths = " and ".join(store.path for store in stores)
        raise InventoryError(f"{paths} are package databases, and the image doesn't say which of them is in effect")
    if not stores:
        manifest = ManifestStore.open(fs)
        return (manifest, ()) if manifest is not None and manifest.contents.headers else None
    return stores[0], tuple(place.file for place in places if place.file != stores[0].path)


def backend_of(path: str) -> str:
    """Return what rpm calls the format that is in a database's file; empty for what rpm doesn't read."""
    return next((backend for backend, name, _ in _FORMATS if path.endswith(f"/{name}")), "")


def _places(fs: ImageFilesystem) -> Iterator[_Place]:
    for folder in dict.fromkeys(map(fs.resolve, FOLDERS)):
        for backend, name, reader in _FORMATS:
            path = fs.resolve(f"{folder}/{name}")
            entry = fs.lookup(path)
            if entry is not None and entry.type is FileType.FILE and entry.size:
                yield _Place(folder, backend, path, reader)


def _preferred(fs: ImageFilesystem, places: list[_Place]) -> list[_Place]:
    """Return those of several that rpm's own configuration names; all of them where it names none that is there."""
    macros = dict(_macros(fs))
    path = macros.get("_dbpath", "")
    for macro, meaning in _KNOWN_MACROS.items():
        path = path.replace(macro, meaning)
    folder = fs.resolve(path) if path.startswith("/") and "%" not in path else ""
    there = [place for place in places if place.folder == folder] or places
    return [place for place in there if place.backend == macros.get("_db_backend")] or there


def _macros(fs: ImageFilesystem) -> Iterator[tuple[str, str]]:
    """Yield what the image's macro files say, the last of which counts."""
    paths = ["usr/lib/rpm/macros"]
    paths += [f"usr/lib/rpm/macros.d/{name}" for name in fs.iterdir("usr/lib/rpm/macros.d")]
    paths += [f"usr/lib/rpm/{vendor}/macros" for vendor in ("redhat", "suse")]
    paths += [f"etc/rpm/{name}" for name in fs.iterdir("etc/rpm") if name.startswith("macros.")]
    for path in (*paths, "etc/rpm/macros"):
        entry = fs.lookup(path)
        if entry is not None and entry.type is FileType.FILE and entry.size <= _MACRO_FILE_LIMIT:
            text = fs.read(path, limit=_MACRO_FILE_LIMIT).decode("utf-8", "replace")
            yield from ((match[1], match[2]) for match in map(_MACRO.fullmatch, text.split("\n")) if match)
