# SPDX-License-Identifier: Apache-2.0
"""
One package onto the tree, by dpkg's rules: what its payload puts where, and what of the old version goes.

A directory that is there keeps its attributes, and a link to a directory stays a link; diversions, overrides and
path filters hold; a configuration file is never lost. What the real dpkg leaves is the measure, and the tests compare.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from copacetic.errors import ConflictError, ImageError, PackageError, about_package
from copacetic.inventory.dpkg import Conffile, DpkgDatabase
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.layerwriter import read_content
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.accounts import Accounts
from copacetic.scripts.handlers.bytecode import STALE, remove_stale
from copacetic.unpack.deb.conffile import NEW, UNREADABLE, ConffileFate, select_fate
from copacetic.unpack.deb.owners import Claim, Ownership, PathOwner
from copacetic.unpack.deb.package import DebPackage
from copacetic.unpack.deb.payload import DebEntry
from copacetic.unpack.deb.slices import Slices

__all__ = ["DebInstaller", "Installation"]

MAX_CONFFILE = 16 * 1024 * 1024
UNKNOWN = "unknown"
"""Instead of a checksum, for what the old version shipped where nothing says it."""
STATOVERRIDE = "var/lib/dpkg/statoverride"


@dataclass(slots=True)
class Installation:
    """What installing a package came to, as the database has to know it."""

    files: list[str] = field(default_factory=list)
    conffiles: list[Conffile] = field(default_factory=list)
    taken: dict[PathOwner, set[str]] = field(default_factory=dict)
    """Paths that other packages lose to this one."""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DebInstaller:
    """Installs packages one after the other into a tree."""

    tree: TreeBuilder
    database: DpkgDatabase
    ownership: Ownership
    accounts: Accounts
    placed: set[str] = field(default_factory=set)
    """Canonical paths of everything that was put, or found to be there: what moves isn't taken away."""
    scripted: bool = False
    """Scripts that aren't followed make room for what has no place in the image; else it is left out here."""

    def install(self, package: DebPackage, payload: Sequence[DebEntry]) -> Installation:
        """Put the payload in place and take away what only the old version had."""
        run = _Run(self, package, payload)
        with about_package(package.key):
            run.place_payload()
            run.remove_unwanted_conffiles()
            run.remove_old_files()
            run.record_conffiles()
        return run.result


class _Run:
    """The installation of one package."""

    def __init__(self, installer: DebInstaller, package: DebPackage, payload: Sequence[DebEntry]) -> None:
        self._tree = tree = installer.tree
        self._database = database = installer.database
        self._ownership = installer.ownership
        self._accounts = installer.accounts
        self._placed = installer.placed
        self._scripted = installer.scripted
        self._package = package
        self._payload = payload
        self._by_path = {entry.path: entry for entry in payload}
        self._obsolete: list[str] = []
        self._kept: set[str] = set()
        """Paths of the payload that stay in the new version's list."""
        self._shipped: dict[str, str] = {}
        """MD5 of the configuration files in the payload."""
        self._old_conffiles: Mapping[str, Conffile] = (
            database.conffiles(package.installed) if package.installed is not None else {}
        )
        partial = package.installed is not None and package.installed.partial
        self._slices = Slices(tree, database, package) if partial else None
        self.result = Installation()

    # -- the new version -------------------------------------------------------------------------------------

    def place_payload(self) -> None:
        """Put every path; dpkg puts symbolic links last, and lists them last."""
        ordered = sorted(self._payload, key=lambda entry: entry.type is FileType.SYMLINK)
        for entry in ordered:
            try:
                kept = self._place(entry)
            except ConflictError as error:
                if not self._scripted:
                    raise error.reworded(f"{self._package.label}: {error}") from error
                kept = True
            except PackageError as error:
                raise error.reworded(f"{self._package.label}: {error}") from error
            except ImageError as error:
                raise ConflictError(f"{self._package.label}: {entry.path}: {error}") from error
            if kept:
                self.result.files.append(entry.path)

    def _place(self, entry: DebEntry) -> bool:
        """Put one path; returns whether it belongs to the package's list."""
        if self._slices is not None and entry.path and not self._slices.has(entry.path):
            return False
        if entry.path and self._filters(entry):
            return True
        target = self._divert(entry.path)
        if self._is_there(entry, target):
            self._note_placed(entry.path, target)
            return True
        if not (entry.type is FileType.DIRECTORY and self._tree.lookup(target, follow=False) is None):
            claim, losers = self._ownership.claim(entry.path, self._package)
            if claim is Claim.REPLACED:
                return False
            for loser in losers:
                self.result.taken.setdefault(loser, set()).add(entry.path)
        if self._package.conffiles.get(entry.path) is False and entry.type is FileType.FILE:
            self._place_conffile(entry, target)
        elif entry.hardlink and self._link(entry, target):
            pass
        else:
            self._tree.put(target, self._entry(entry), self._origin(entry).content)
        self._note_placed(entry.path, target)
        return True

    def _note_placed(self, path: str, target: str) -> None:
        self._kept.add(path)
        self._placed.add(self._tree.resolve(target, follow=False))

    def _is_there(self, entry: DebEntry, target: str) -> bool:
        """Tell whether a directory (or a link to one) is there that the package's entry leaves alone."""
        if entry.path == "":
            return True
        if entry.type is FileType.DIRECTORY:
            return self._tree.type_of(target) is FileType.DIRECTORY
        if entry.type is not FileType.SYMLINK:
            return False
        present = self._tree.lookup(target, follow=False)
        if present is None or present.type not in (FileType.DIRECTORY, FileType.SYMLINK):
            return False
        if present.type is FileType.DIRECTORY:
            return True
        canonical = self._tree.resolve(target, follow=False)
        parent = canonical.rpartition("/")[0]
        new = entry.target if entry.target.startswith("/") else f"{parent}/{entry.target}"
        same = self._tree.resolve(new) == self._tree.resolve(canonical)
        return same and self._tree.type_of(new) is FileType.DIRECTORY

    def _filters(self, entry: DebEntry) -> bool:
        special = entry.type in (FileType.DIRECTORY, FileType.SYMLINK)
        return self._database.path_filters.excludes(entry.path, directory_or_link=special)

    def _link(self, entry: DebEntry, target: str) -> bool:
        """Make a further name of a file; as in dpkg, the attributes that the last name comes with are the file's."""
        first = self._divert(entry.hardlink)
        if entry.hardlink not in self._kept or entry.hardlink in self._package.conffiles:
            return False
        self._tree.link(target, first)
        self._tree.change(target, self._entry(entry))
        return True

    def _entry(self, entry: DebEntry) -> Entry:
        origin = self._origin(entry)
        uid, gid = self._accounts.owner(entry.user, entry.uid, entry.group, entry.gid)
        mode = entry.mode
        override = self._database.statoverrides.get(entry.path)
        if override is not None and entry.type is not FileType.SYMLINK:
            uid, gid = self._accounts.require(override.user, override.group, named_in=STATOVERRIDE)
            mode = override.mode
        return Entry(
            type=entry.type,
            mode=mode,
            uid=uid,
            gid=gid,
            size=origin.content.size if origin.content is not None else 0,
            mtime=entry.mtime,
            target=entry.target,
            sha256=origin.sha256,
        )

    def _origin(self, entry: DebEntry) -> DebEntry:
        """Return the entry that has the content: a hard link's target."""
        while entry.hardlink:
            entry = self._by_path[entry.hardlink]
        return entry

    def _divert(self, path: str) -> str:
        return self._database.diverted(path, self._package.name)

    # -- configuration files ---------------------------------------------------------------------------------

    def _place_conffile(self, entry: DebEntry, target: str) -> None:
        spooled = self._origin(entry).content
        assert spooled is not None
        if spooled.size > MAX_CONFFILE:
            raise PackageError(f"{entry.path} has {spooled.size} bytes, too many for a configuration file")
        content = read_content(spooled)
        new = self._shipped[entry.path] = md5_of(content)
        path = self._tree.resolve(target, follow=False)
        present = self._tree.lookup(path, follow=False)
        if present is not None and present.type is FileType.SYMLINK:
            self._leave_link(entry.path, path, self._entry(entry), content)
            return
        if present is not None and present.type is not FileType.FILE:
            raise ConflictError(f"{path} is a {present.type.value}, where a configuration file belongs")
        current = None
        if present is not None:
            current = new if present.sha256 == self._origin(entry).sha256 else self._md5_in_image(path)
        shipped = self._shipped_before(entry.path)
        fate = select_fate(shipped=shipped, present=current, new=new)
        described = self._entry(entry)
        if present is not None:
            described = dataclasses.replace(described, mode=present.mode, uid=present.uid, gid=present.gid)
        if fate is ConffileFate.INSTALL:
            self._tree.put(path, described, content)
        elif fate is ConffileFate.OFFER:
            state = "was removed from" if present is None else "was changed in"
            if present is not None and shipped == UNKNOWN:
                state = "may have been changed in"
            self._offer(path, described, content, f"{state} the image")

    def _leave_link(self, path: str, target: str, entry: Entry, content: bytes) -> None:
        """What dpkg does where the administrator has made a link of a configuration file: it leaves all as it is."""
        self._shipped[path] = self._shipped_before(path)
        if not self._is_regular():
            self.result.notes.append(f"kept {target}, which is a link in the image")
            return
        self._tree.put(f"{target}.dpkg-new", entry, content)
        self.result.notes.append(f"{target} is a link in the image and stays one; the new version is {target}.dpkg-new")

    def _offer(self, path: str, entry: Entry, content: bytes, state: str) -> None:
        if not self._is_regular():
            self.result.notes.append(f"kept {path}, which {state}")
            return
        self._tree.put(f"{path}.dpkg-dist", entry, content)
        with self._tree.in_name_of("a configuration file's backup"):
            self._tree.remove(f"{path}.dpkg-old")
        self.result.notes.append(f"{path} {state} and stays so; the package's new version is {path}.dpkg-dist")

    def _is_regular(self) -> bool:
        installed = self._package.installed
        return self._database.regular and (installed is None or self._database.is_regular(installed))

    def _shipped_before(self, path: str) -> str:
        """Return the MD5 that was recorded for a configuration file, by this package or one that had it before."""
        recorded = self._old_conffiles.get(path)
        if recorded is not None:
            return recorded.md5
        installed = self._package.installed
        if installed is not None and not self._database.is_regular(installed):
            sha256 = self._slices.shipped(path) if self._slices is not None else ""
            if sha256:
                present = self._tree.lookup(path)
                return self._md5_in_image(path) if present is not None and present.sha256 == sha256 else sha256
            return self._database.md5sums(installed).get(path, UNKNOWN if self._tree.lookup(path) else NEW)
        for other in self._ownership.others(path, self._package):
            if other.installed is not None:
                theirs = self._database.conffiles(other.installed).get(path)
                if theirs is not None:
                    return theirs.md5
        return NEW

    def _md5_in_image(self, path: str) -> str:
        return md5_of(self._tree.read(path, limit=MAX_CONFFILE))

    def record_conffiles(self) -> None:
        """Note what the database has to say about configuration files: the new ones first, then obsolete ones."""
        obsolete = [Conffile(path, self._old_conffiles[path].md5, obsolete=True) for path in self._obsolete]
        for path, to_remove in self._package.conffiles.items():
            md5 = self._shipped.get(path) or self._shipped_before(path)
            self.result.conffiles.append(Conffile(path, md5, remove_on_upgrade=to_remove))
        self.result.conffiles += obsolete
        self.result.files += self._obsolete

    def remove_unwanted_conffiles(self) -> None:
        """Take away what the package lists only to have it removed; a changed file gets another name."""
        for path, to_remove in self._package.conffiles.items():
            if to_remove:
                self._remove_on_upgrade(path)

    def _remove_on_upgrade(self, path: str) -> None:
        target = self._tree.resolve(self._divert(path))
        entry = self._tree.lookup(target)
        if entry is None or self._ownership.others(path, self._package):
            return
        if entry.type is not FileType.FILE:
            self._shipped[path] = UNREADABLE
            return
        content = self._tree.read(target, limit=MAX_CONFFILE)
        with self._tree.in_name_of("a configuration file that a package wants gone"):
            if md5_of(content) != self._shipped_before(path):
                self._tree.put(f"{target}.dpkg-old", entry, content)
                self.result.notes.append(f"{target} is no longer used and was changed: it is {target}.dpkg-old now")
            self._tree.remove(target)

    # -- the old version -------------------------------------------------------------------------------------

    def remove_old_files(self) -> None:
        """Take away what the new version doesn't have, unless it is somebody else's or a configuration file."""
        installed = self._package.installed
        if installed is None or installed.partial:
            return
        for path in reversed(self._database.files(installed)):
            if path == "" or path in self._kept or path in self._package.conffiles:
                continue
            target = self._divert(path)
            entry = self._tree.lookup(target, follow=False)
            if entry is None:
                continue
            if path in self._old_conffiles and entry.type is not FileType.DIRECTORY:
                self._obsolete.append(path)
            elif self._is_ours_alone(path, target):
                self._tree.remove(target)
                if path.endswith(".py"):
                    # The folder may have to go next, and byte code of a module that is gone would keep it.
                    with self._tree.in_name_of(STALE):
                        remove_stale(self._tree, target)

    def _is_ours_alone(self, path: str, target: str) -> bool:
        return self._tree.resolve(target, follow=False) not in self._placed and not self._ownership.others(
            path, self._package
        )


def md5_of(content: bytes) -> str:
    """Return dpkg's checksum of a file."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
