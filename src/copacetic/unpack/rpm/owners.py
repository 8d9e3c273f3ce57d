# SPDX-License-Identifier: Apache-2.0
"""
Whose paths are whose: what becomes of every file of all packages that come, decided before anything is changed.

As rpm does it: packages that go, packages that stay and packages that come all have a say, and paths are told apart by
where they really are, so that two spellings of one place are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from copacetic.errors import ConflictError, PackageError, about_package
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.rpm.files import FileFlag, FileState, RpmFile, VerifyFlag
from copacetic.unpack.rpm.fate import Fate, Present, choose_fate, choose_unowned
from copacetic.unpack.rpm.files import agree, kind_of_file, require_no_record
from copacetic.unpack.rpm.omissions import Omissions
from copacetic.unpack.rpm.package import OpenedRpm
from copacetic.updates import InstalledPackage, PackageKey

__all__ = ["Decision", "Decisions", "InstalledFiles", "look_at"]

MAX_CONFIG = 64 * 1024 * 1024
PREFERRED_COLOUR = 2
"""Of two architectures' files at one path, that of 64 bits stays; rpm's own default."""
_CONTENT = (FileType.FILE, FileType.SYMLINK)


@dataclass(slots=True, eq=False)
class InstalledFiles:
    """A package of the image with its list."""

    package: InstalledPackage
    files: tuple[RpmFile, ...]
    goes: bool = False
    """It is replaced, or taken away."""


@dataclass(slots=True, eq=False)
class Decision:
    """What becomes of a package's files, by path."""

    package: OpenedRpm
    fates: dict[str, Fate]

    def states(self) -> bytes:
        """Return what the database has to say of the files."""
        kinds = {Fate.NOT_INSTALLED: FileState.NOT_INSTALLED, Fate.WRONG_COLOUR: FileState.WRONG_COLOR}
        return bytes(kinds.get(fate, FileState.NORMAL) for fate in self.fates.values())


@dataclass(slots=True)
class Decisions:
    """All packages' files, held against each other and against the tree as it is when this is made."""

    tree: TreeBuilder
    installed: Sequence[InstalledFiles]
    omissions: Omissions
    by_key: dict[PackageKey, Decision] = field(default_factory=dict)
    _owners: dict[str, list[tuple[InstalledFiles, RpmFile]]] = field(default_factory=dict)
    """By canonical path, of what comes or goes."""
    _added: dict[str, tuple[Decision, RpmFile]] = field(default_factory=dict)

    def decide(self, packages: Sequence[OpenedRpm]) -> None:
        """Decide about all of them. Raises `ConflictError` where rpm itself would refuse."""
        self._learn(packages)
        for package in packages:
            with about_package(package.key):
                old = self._files_of(package.installed)
                fates = self.omissions.choose(package.files, {file.path: file for file in old})
                decision = Decision(package, {file.path: fates.get(file.path, Fate.CREATE) for file in package.files})
                self.by_key[package.key] = decision
                for file in package.files:
                    if file.path not in fates:
                        self._settle(decision, file)

    def is_wanted(self, canonical: str, *, by_those_that_stay: bool = True) -> bool:
        """Tell whether what is at a path belongs to a package that comes or stays."""
        if canonical in self._added:
            return True
        return by_those_that_stay and any(
            not owner.goes and file.state == FileState.NORMAL for owner, file in self._owners.get(canonical, ())
        )

    def is_dated(self, canonical: str, present: Entry) -> bool:
        """Tell whether what is at a path has the time of modification that its package gave it."""
        return any(file.mtime == present.mtime for _, file in self._owners.get(canonical, ()))

    # -- inside ----------------------------------------------------------------------------------------------

    def _learn(self, packages: Sequence[OpenedRpm]) -> None:
        """Find out who of the image's packages has which of the paths that matter."""
        canonical = _Canonical(self.tree)
        wanted = {canonical.of(file.path) for package in packages for file in package.files}
        for owner in self.installed:
            if owner.goes:
                wanted.update(canonical.of(file.path) for file in owner.files)
        for owner in self.installed:
            for file in owner.files:
                path = canonical.of(file.path)
                if path in wanted:
                    self._owners.setdefault(path, []).append((owner, file))

    def _files_of(self, package: InstalledPackage | None) -> tuple[RpmFile, ...]:
        return next((owner.files for owner in self.installed if owner.package == package), ()) if package else ()

    def _settle(self, decision: Decision, file: RpmFile) -> None:
        """Decide about one file that is not left out."""
        canonical = self.tree.resolve(file.path, follow=False)
        if canonical != file.path:
            require_no_record(file, canonical, decision.package.label)
        owners = [(o, f) for o, f in self._owners.get(canonical, ()) if f.state != FileState.NOT_INSTALLED]
        fate: Fate | None = None
        for owner, old in owners:
            if not owner.goes and not agree(file, old):
                loser = self._loser(file, old)
                if loser is None:
                    raise ConflictError(
                        f"{decision.package.label}: {file.path} is another file of {owner.package.name}"
                    )
                if loser is file:
                    fate = Fate.WRONG_COLOUR
                    break
                raise ConflictError(
                    f"{decision.package.label}: {file.path} would take the place of that of {owner.package.key}"
                )
            if is_derived(self.tree, canonical, file, old):
                fate = Fate.SKIP
            elif fate is None or old.has(FileFlag.CONFIG) or file.has(FileFlag.CONFIG):
                fate = choose_fate(file, old, look_at(self.tree, canonical, file, old))
        other = self._added.get(canonical)
        if other is not None and fate is not Fate.WRONG_COLOUR:
            fate = self._share(decision, file, fate, *other)
        elif fate is None:
            fate = choose_unowned(file, look_at(self.tree, canonical, file, None))
        decision.fates[file.path] = fate
        if not fate.is_left_out and (other is None or fate is Fate.CREATE):
            self._added[canonical] = decision, file

    def _share(self, decision: Decision, file: RpmFile, fate: Fate | None, other: Decision, theirs: RpmFile) -> Fate:
        """Decide about a path that a package before this one brings, too."""
        if agree(file, theirs):
            if theirs.has(FileFlag.GHOST) and not file.has(FileFlag.GHOST):
                return fate or choose_unowned(file, look_at(self.tree, file.path, file, None))
            return Fate.SHARED
        loser = self._loser(file, theirs)
        if loser is None:
            raise self._intruding(decision, other, file.path)
        if loser is file:
            return Fate.WRONG_COLOUR
        other.fates[theirs.path] = Fate.WRONG_COLOUR
        return Fate.CREATE

    def _intruding(self, one: Decision, other: Decision, path: str) -> ConflictError:
        """Blame, of two new packages with different files at one path, the one whose path it hasn't been so far."""
        had = any(file.path == path for file in self._files_of(one.package.installed))
        late, there = (other, one) if had else (one, other)
        error = ConflictError(f"{late.package.label}: {path} is another file of {there.package.label}")
        error.package = late.package.key
        return error

    def _loser(self, one: RpmFile, two: RpmFile) -> RpmFile | None:
        """Return which of two architectures' files gives way at one path; None where that isn't why they differ."""
        ours, theirs = (file.color & self.omissions.colour for file in (one, two))
        if not ours or not theirs or ours == theirs:
            return None
        if ours & PREFERRED_COLOUR:
            return two
        return one if theirs & PREFERRED_COLOUR else None


class _Canonical:
    """Paths as the tree really has them; directories are looked up once."""

    def __init__(self, tree: TreeBuilder) -> None:
        self._tree = tree
        self._folders: dict[str, str] = {}

    def of(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self._tree.resolve(folder)
        return f"{real}/{name}" if real else name


def is_derived(tree: TreeBuilder, canonical: str, new: RpmFile, old: RpmFile) -> bool:
    """
    Tell whether a file is one that scripts make anew and packages only have a place for, as glibc has for its cache of
    character sets: its content isn't verified, and is not the installed package's any more.
    """
    if not (new.is_regular and old.is_regular) or new.has(FileFlag.CONFIG) or new.has(FileFlag.GHOST):
        return False
    if new.verify & VerifyFlag.DIGEST or old.verify & VerifyFlag.DIGEST:
        return False
    entry = tree.lookup(canonical, follow=False)
    return entry is not None and entry.type is FileType.FILE and not _has(tree, canonical, entry, old, {})


def look_at(tree: TreeBuilder, canonical: str, new: RpmFile, old: RpmFile | None) -> Present | None:
    """Hold what is at a path against what two packages say of it."""
    entry = tree.lookup(canonical, follow=False)
    if entry is None:
        return None
    needed = new.has(FileFlag.CONFIG) or (old is not None and old.has(FileFlag.CONFIG))
    if not needed or entry.type not in _CONTENT:
        return Present(entry.type)
    sums: dict[str, str] = {}
    return Present(
        entry.type,
        is_new=_has(tree, canonical, entry, new, sums),
        is_old=old is not None and _has(tree, canonical, entry, old, sums),
    )


def _has(tree: TreeBuilder, path: str, entry: Entry, file: RpmFile, sums: dict[str, str]) -> bool:
    """Tell whether what is there has a file's content; digests that were taken already are in `sums`."""
    if entry.type is not kind_of_file(file):
        return False
    if entry.type is FileType.SYMLINK:
        return entry.target == file.target
    if entry.size != file.size or not file.digest:
        return False
    if file.algorithm == "sha256":
        return entry.sha256 == file.digest
    if file.algorithm not in sums:
        if entry.size > MAX_CONFIG:
            raise PackageError(f"{path} has {entry.size} bytes, too many for a configuration file")
        data = tree.read(path, limit=MAX_CONFIG)
        sums[file.algorithm] = hashlib.new(file.algorithm, data, usedforsecurity=False).hexdigest()
    return sums[file.algorithm] == file.digest
