# SPDX-License-Identifier: Apache-2.0
"""
One package onto the tree, by apk's rules and in apk's order: its list is read, its files move to their places, and
then what only the old version had goes.

The order decides who claims a file and when a directory dies, so packages are installed one after the other, each as
a whole. What the real apk leaves is the measure, and the tests compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

from copacetic.apk.stanza import ApkStanza, checksum_of
from copacetic.errors import ConflictError, ImageError, PackageError, about_package
from copacetic.inventory.apk import ListedFile, Owner
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.repository.apk.package import ApkEntry
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.apk.directories import Directories
from copacetic.unpack.apk.holders import Holder, Holders
from copacetic.unpack.apk.package import ApkPackage
from copacetic.unpack.apk.payload import ApkFileEntry
from copacetic.unpack.apk.protected import ProtectedPaths

__all__ = ["NEW_SUFFIX", "ApkInstaller", "further_name"]

NEW_SUFFIX = ".apk-new"
MAX_PROTECTED = 1024**3
_SPECIAL_BITS = 0o7000
_SET_ID = 0o6000


@dataclass(slots=True, eq=False)
class _Inode:
    """A file of the payload, under however many names."""

    entry: Entry
    content: Spooled | bytes | None
    placed: str = ""
    """Where the first of its names went; empty as long as none did."""


@dataclass(slots=True)
class ApkInstaller:
    """Installs packages one after the other into a tree."""

    tree: TreeBuilder
    holders: Holders
    protected: ProtectedPaths
    notes: list[str] = field(default_factory=list)
    """What a user wants to know: files that were kept, and where the new ones are."""
    scripted: bool = False
    """Scripts that aren't followed make room for what has no place in the image; else it is left out here."""
    _placed: set[str] = field(default_factory=set)
    """Canonical paths of all files that the packages brought."""

    def install(self, package: ApkPackage, payload: Sequence[ApkFileEntry], directories: Directories) -> Holder:
        """Install one package; returns its list. Raises `PackageError` where apk itself would fail."""
        old = self.holders.find(package.name)
        new = Holder(ApkStanza(package.fields))
        run = _Run(self, package, directories, old, new)
        with about_package(package.key):
            try:
                inodes = run.read(payload)
                directories.add(new)
                run.migrate(inodes)
                if old is not None:
                    run.purge(old)
            except ImageError as error:
                raise ConflictError(f"{package.label}: {error}") from error
        self.holders.replace(old, new)
        if old is not None:
            directories.drop(old)
        return new

    def remember(self, path: str) -> None:
        """Note that a file was placed: nothing that is dropped under another spelling may remove it."""
        self._placed.add(path)

    def was_placed(self, path: str) -> bool:
        return path in self._placed


@dataclass(slots=True)
class _Run:
    """The installation of one package."""

    installer: ApkInstaller
    package: ApkPackage
    directories: Directories
    old: Holder | None
    new: Holder

    @property
    def tree(self) -> TreeBuilder:
        return self.installer.tree

    @property
    def holders(self) -> Holders:
        return self.installer.holders

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, payload: Sequence[ApkFileEntry]) -> Mapping[str, _Inode]:
        """Make the package's list, and the directories that are missing; returns what its paths stand for."""
        accounts = Accounts(self.tree)
        inodes: dict[str, _Inode] = {}
        for entry in payload:
            raw = entry.raw
            uid, gid = accounts.owner(raw.user, raw.uid, raw.group, raw.gid)
            owner = Owner(uid, gid, raw.mode, _sum_attributes(raw.xattrs))
            if entry.type is FileType.DIRECTORY:
                with self._room():
                    self.directories.prepare(entry.path, mode=raw.mode, mtime=raw.mtime)
                self.new.directories[entry.path] = owner
                continue
            self.new.directories.setdefault(entry.directory, Owner(0, 0, 0o755))
            if self.holders.allows(self.new, entry.path):
                inodes[entry.path] = self._stage(entry, owner, inodes)
        # apk goes through its files directory by directory.
        by_directory = {path: rank for rank, path in enumerate(self.new.directories)}
        ordered = sorted(self.new.files, key=lambda path: by_directory[path.rpartition("/")[0]])
        self.new.files = {path: self.new.files[path] for path in ordered}
        return inodes

    def _stage(self, entry: ApkFileEntry, owner: Owner, inodes: Mapping[str, _Inode]) -> _Inode:
        """Describe a file; further names of one change its owner as link(2) and chown(2) do."""
        raw = entry.raw
        checksum = raw.checksum
        if entry.hardlink:
            inode = inodes.get(entry.hardlink)
            if inode is None:
                raise PackageError(
                    f"{self.package.label}: {entry.path} is a hard link to {entry.hardlink}, which isn't installed"
                )
            checksum = self.new.files[entry.hardlink].checksum
            mode, xattrs = further_name(inode.entry.mode, inode.entry.xattrs, raw)
            inode.entry = replace(inode.entry, uid=owner.uid, gid=owner.gid, mode=mode, xattrs=xattrs)
        else:
            inode = _Inode(
                Entry(
                    type=entry.type,
                    mode=0o777 if entry.type is FileType.SYMLINK else raw.mode,
                    uid=owner.uid,
                    gid=owner.gid,
                    size=raw.size if entry.type is FileType.FILE else 0,
                    mtime=raw.mtime,
                    target=raw.link if entry.type is FileType.SYMLINK else "",
                    device=raw.device,
                    xattrs={} if entry.type is FileType.SYMLINK else dict(raw.xattrs),
                    sha256=entry.sha256,
                ),
                entry.content,
            )
        self.new.files[entry.path] = ListedFile(entry.name, owner, checksum)
        return inode

    # -- moving ----------------------------------------------------------------------------------------------

    def migrate(self, inodes: Mapping[str, _Inode]) -> None:
        """Move every file to its place, or beside the one that the administrator has changed."""
        for path in self.new.files:
            directory = path.rpartition("/")[0]
            self.directories.touched.add(directory)
            with self._room():
                target = self._choose_place(path, inodes[path])
                if target:
                    self._place(target, inodes[path])
            self.holders.take(self.new, path)

    def _room(self) -> AbstractContextManager[None]:
        return suppress(ConflictError) if self.installer.scripted else nullcontext()

    def _choose_place(self, path: str, inode: _Inode) -> str:
        """Return where a file goes; "" when what is there has the same content and stays."""
        present = self.tree.lookup(path, follow=False)
        if present is None:
            return path
        if present.type is FileType.DIRECTORY:
            raise ConflictError(f"{self.package.label}: {path} is a directory in the image, where a file belongs")
        if not self.installer.protected.protects(path.rpartition("/")[0]):
            return path
        owner = self.holders.owner(path)
        if owner is not None and self._has(path, present, owner.files[path], owner):
            return path
        if self._has_content(path, present, inode):
            self.installer.notes.append(f"kept {path}, which has the new content already")
            return ""
        self.installer.notes.append(
            f"{path} was changed in the image and stays so; the package's new version is {path}{NEW_SUFFIX}"
        )
        return f"{path}{NEW_SUFFIX}"

    def _place(self, path: str, inode: _Inode) -> None:
        if inode.placed:
            self.tree.link(path, inode.placed)
            canonical = self.tree.resolve(path, follow=False)
        else:
            canonical = inode.placed = self.tree.put(path, inode.entry, inode.content)
        self.installer.remember(canonical)

    def _has_content(self, path: str, present: Entry, inode: _Inode) -> bool:
        """Tell whether what is there has the content that the package brings, as far as the package has a checksum."""
        file = self.new.files[path]
        if file.digest is None:
            return False
        if present.type is not inode.entry.type:
            # A checksum is of content or of a link's target, and doesn't say which.
            return self._has(path, present, file, self.new)
        return (present.sha256, present.target) == (inode.entry.sha256, inode.entry.target)

    def _has(self, path: str, present: Entry, file: ListedFile, holder: Holder) -> bool:
        """Tell whether what is there has the checksum that a list records."""
        digest = file.digest
        if digest is None or present.type not in (FileType.FILE, FileType.SYMLINK):
            return False
        algorithm = "sha256" if holder.stanza.cut_sha256 else "sha1"
        if present.type is FileType.SYMLINK:
            data = present.target.encode("utf-8", "surrogateescape")
        elif algorithm == "sha256":
            return bytes.fromhex(present.sha256)[: len(digest)] == digest
        else:
            data = self.tree.read(path, limit=MAX_PROTECTED)
        return hashlib.new(algorithm, data, usedforsecurity=False).digest()[: len(digest)] == digest

    # -- removing --------------------------------------------------------------------------------------------

    def purge(self, old: Holder) -> None:
        """Remove what the old version has left; what was changed in a protected directory stays, and is nobody's."""
        for path, file in list(old.files.items()):
            present = self.tree.lookup(path, follow=False)
            if present is not None and present.type is not FileType.DIRECTORY:
                self._remove(path, present, file, old)
            self.holders.drop(old, path)
        for path in old.directories:
            self.directories.touched.add(path)
            self.directories.prepare(path, mode=None)

    def _remove(self, path: str, present: Entry, file: ListedFile, old: Holder) -> None:
        if self.installer.was_placed(self.tree.resolve(path, follow=False)):
            return
        if self.installer.protected.protects(path.rpartition("/")[0]) and not self._has(path, present, file, old):
            self.installer.notes.append(f"{path} was changed in the image and stays, though no package has it any more")
            return
        self.tree.remove(path)


def further_name(mode: int, xattrs: Mapping[str, bytes], raw: ApkEntry) -> tuple[int, Mapping[str, bytes]]:
    """Return a file's mode and attributes after one more name, whose owner it gets: chown(2) takes the special bits."""
    return raw.mode if raw.mode & _SPECIAL_BITS else mode & ~_SET_ID, {**xattrs, **raw.xattrs}


def _sum_attributes(xattrs: Mapping[str, bytes]) -> str:
    """Return the checksum by which a list records extended attributes, or "" without any."""
    if not xattrs:
        return ""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in sorted(xattrs):
        encoded = name.encode("utf-8", "surrogateescape")
        for part in (encoded, xattrs[name]):
            digest.update(len(part).to_bytes(4, "big") + part)
    return checksum_of(digest.digest())
