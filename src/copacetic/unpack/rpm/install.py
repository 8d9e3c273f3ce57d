# SPDX-License-Identifier: Apache-2.0
"""
One package onto the tree, and an old one off it, as was decided about their files.

What the real rpm leaves is the measure, and the tests compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from copacetic.errors import ConflictError, ImageError, PackageError, about_package
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.rpm.files import FileFlag, FileState, RpmFile
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.rpm.capabilities import ATTRIBUTE, encode_capabilities
from copacetic.unpack.rpm.fate import Fate, is_changed
from copacetic.unpack.rpm.files import kind_of_file
from copacetic.unpack.rpm.owners import MAX_CONFIG, Decisions, InstalledFiles, look_at
from copacetic.unpack.rpm.package import OpenedRpm
from copacetic.unpack.rpm.payload import RpmFileEntry

__all__ = ["RpmInstaller", "describe_entry"]

_ASKED = "etc/"
_MAX_ASKED = 1024 * 1024
_BACKUP = "a configuration file's backup"


def describe_entry(entry: RpmFileEntry, accounts: Accounts) -> Entry:
    """Return what a file is to be. Without its user or its group in the image it is root's, and can't lend rights."""
    file = entry.file
    kind = kind_of_file(file)
    assert kind is not None
    uid, gid = accounts.owner(file.user, -1, file.group, -1)
    mode = file.permissions & (~0o4000 if uid < 0 else ~0) & (~0o2000 if gid < 0 else ~0)
    is_device = kind in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
    return Entry(
        type=kind,
        mode=0o777 if file.is_link else mode,
        uid=max(uid, 0),
        gid=max(gid, 0),
        size=file.size if file.is_regular else 0,
        mtime=file.mtime,
        target=file.target if file.is_link else "",
        device=(file.device_number >> 8 & 0xFF, file.device_number & 0xFF) if is_device else (0, 0),
        xattrs={ATTRIBUTE: encode_capabilities(file.capabilities)} if _has_capabilities(file) else {},
        sha256=entry.sha256,
    )


def _has_capabilities(file: RpmFile) -> bool:
    return file.is_regular and file.capabilities not in ("", "=")


@dataclass(slots=True)
class RpmInstaller:
    """Installs packages, and takes old ones away."""

    tree: TreeBuilder
    decisions: Decisions
    notes: list[str] = field(default_factory=list)
    """What a user wants to know: files that were kept, and where the others are."""

    def install(self, package: OpenedRpm, payload: Sequence[RpmFileEntry]) -> None:
        """Put a package's files in place. Raises `ConflictError` where rpm itself would fail."""
        fates = self.decisions.by_key[package.key].fates
        accounts = Accounts(self.tree)
        placed: dict[str, str] = {}
        with about_package(package.key):
            for entry in payload:
                fate = fates[entry.file.path]
                if fate.is_left_out or fate in (Fate.SKIP, Fate.SHARED) or entry.file.has(FileFlag.GHOST):
                    self._note_skip(package, entry.file, fate)
                    continue
                try:
                    self._place(entry, fate, describe_entry(entry, accounts), placed)
                except ImageError as error:
                    raise ConflictError(f"{package.label}: {entry.file.path}: {error}") from error
                except PackageError as error:
                    raise error.reworded(f"{package.label}: {error}") from error

    def _place(self, entry: RpmFileEntry, fate: Fate, described: Entry, placed: dict[str, str]) -> None:
        file = entry.file
        canonical = self.tree.resolve(file.path, follow=False)
        present = self.tree.lookup(canonical, follow=False)
        if file.is_directory:
            self._place_directory(file, canonical, present, described)
            return
        if present is not None and present.type is FileType.DIRECTORY:
            raise ConflictError(f"{file.path} is a directory in the image, where the package has something else")
        if fate is Fate.OFFER:
            canonical = f"{canonical}{fate.value}"
            self._note(f"{file.path} was changed in the image and stays so; the package's new version is {canonical}")
        elif fate in (Fate.SAVE, Fate.BACK_UP) and present is not None:
            self._save(canonical, present, f"{canonical}{fate.value}")
            self._note(f"{file.path} was changed in the image, and is {canonical}{fate.value} now")
        content: Spooled | bytes | None = entry.content
        if content is None and file.path.startswith(_ASKED) and present is not None:
            content = self._same(canonical, present, described)
        first = placed.get(entry.first or file.path)
        if entry.first and first is not None:
            self.tree.link(canonical, first)
        else:
            # What is verified now has to be so afterwards, by its time of modification, too.
            dated = file.is_regular and present is not None and self.decisions.is_dated(canonical, present)
            placed[entry.first or file.path] = self.tree.put(canonical, described, content, dated=dated)

    def _same(self, path: str, present: Entry, described: Entry) -> bytes | None:
        """Return a file's bytes in a rehearsal, where the package has the same: scripts may ask for them."""
        same = present.type is described.type is FileType.FILE and present.sha256 == described.sha256
        return self.tree.find(path, limit=MAX_CONFIG) if same and present.size <= _MAX_ASKED else None

    def _place_directory(self, file: RpmFile, canonical: str, present: Entry | None, described: Entry) -> None:
        """A directory that is there gets the package's mode and owner; a link to one stays a link."""
        if present is not None and present.type is FileType.SYMLINK:
            canonical = self.tree.resolve(canonical)
            present = self.tree.lookup(canonical)
        if present is not None and present.type is not FileType.DIRECTORY:
            raise ConflictError(
                f"{file.path} is a {present.type.value} in the image, where the package has a directory"
            )
        self.tree.put(canonical, described)

    def _save(self, path: str, present: Entry, target: str) -> None:
        content = None
        if present.type is FileType.FILE:
            if present.size > MAX_CONFIG:
                raise PackageError(f"{path} has {present.size} bytes, too many for a configuration file")
            content = self.tree.read(path, limit=MAX_CONFIG)
        with self.tree.in_name_of(_BACKUP):
            self.tree.put(target, replace(present, link_group="", implicit=False), content)

    def _note(self, note: str) -> None:
        self.notes.append(note)

    def _note_skip(self, package: OpenedRpm, file: RpmFile, fate: Fate) -> None:
        if fate is Fate.SKIP and file.has(FileFlag.CONFIG) and not file.has(FileFlag.GHOST) and not file.is_directory:
            state = "as it is" if self.tree.lookup(file.path, follow=False) is not None else "away"
            self._note(f"{file.path} of {package.name} stays {state}")

    # -- removing --------------------------------------------------------------------------------------------

    def erase(self, old: InstalledFiles) -> None:
        """Take away what only an old version had; what was changed in the image is kept under another name."""
        with about_package(old.package.key):
            for file in reversed(old.files):
                if file.path and file.state == FileState.NORMAL:
                    self._remove(file)

    def _remove(self, file: RpmFile) -> None:
        canonical = self.tree.resolve(file.path, follow=False)
        if self.decisions.is_wanted(canonical):
            return
        entry = self.tree.lookup(canonical, follow=False)
        if entry is None or (entry.type is FileType.DIRECTORY) is not file.is_directory:
            return
        if file.has(FileFlag.CONFIG) and not file.is_directory:
            present = look_at(self.tree, canonical, file, None)
            if present is not None and is_changed(file, present, same=present.is_new):
                if not file.has(FileFlag.GHOST):
                    self._save(canonical, entry, f"{canonical}{Fate.SAVE.value}")
                    self.tree.remove(canonical)
                    self._note(f"{file.path} was changed in the image, and is {canonical}{Fate.SAVE.value} now")
                return
        self.tree.remove(canonical)
