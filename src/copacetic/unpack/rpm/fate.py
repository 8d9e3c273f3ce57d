# SPDX-License-Identifier: Apache-2.0
"""
What becomes of one file of a package, where something is there already: a pure function of both and of the old one.

Only files that the old or the new package calls a configuration file are kept from being overwritten, as in rpm.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from copacetic.oci.filesystem import FileType
from copacetic.rpm.files import FileFlag, RpmFile
from copacetic.unpack.rpm.files import has_content_of, kind_of_file

__all__ = ["Fate", "Present", "choose_fate", "choose_unowned", "is_changed"]

_KEPT_TYPES = (FileType.FILE, FileType.SYMLINK)


class Fate(Enum):
    """What is done with a file of the new package."""

    CREATE = "create"
    TOUCH = "touch"
    """The content is there already; it gets the package's mode and owner."""
    SKIP = "skip"
    """What is there, or isn't, stays."""
    SHARED = "shared"
    """Another package that comes has the same, and puts it there."""
    SAVE = ".rpmsave"
    """It takes its place, and what is there is kept under this suffix."""
    BACK_UP = ".rpmorig"
    """The same for what no package had."""
    OFFER = ".rpmnew"
    """What is there stays, and it goes beside it, under this suffix."""
    NOT_INSTALLED = "not installed"
    """Documentation or a language that this image leaves out."""
    WRONG_COLOUR = "wrong colour"
    """The file of another architecture has its place."""

    @property
    def is_left_out(self) -> bool:
        """Whether the package doesn't have the file at all, as far as this image is concerned."""
        return self in (Fate.NOT_INSTALLED, Fate.WRONG_COLOUR)


class Present(Struct, frozen=True):
    """What is at a file's path, held against what packages say of it."""

    type: FileType
    is_new: bool = False
    """The same content (or target of a link) as the new package's."""
    is_old: bool = False
    """The same as the installed package's."""


def choose_fate(new: RpmFile, old: RpmFile, present: Present | None) -> Fate:
    """Decide about a file that an installed package has, too."""
    if new.has(FileFlag.GHOST):
        return Fate.SKIP
    if not (new.has(FileFlag.CONFIG) or old.has(FileFlag.CONFIG)):
        return Fate.CREATE
    if present is None:
        return Fate.SKIP if new.has(FileFlag.MISSING_OK) else Fate.CREATE
    if kind_of_file(old) not in _KEPT_TYPES:
        return Fate.CREATE
    if present.is_new and kind_of_file(old) is kind_of_file(new):
        return Fate.TOUCH
    if present.is_old:
        return Fate.CREATE
    if not new.has(FileFlag.CONFIG):
        return Fate.SAVE
    if has_content_of(new, old):
        return Fate.SKIP
    return Fate.OFFER if new.has(FileFlag.NO_REPLACE) else Fate.SAVE


def choose_unowned(new: RpmFile, present: Present | None) -> Fate:
    """Decide about a file that no installed package has."""
    if new.has(FileFlag.GHOST):
        return Fate.SKIP
    if present is None or not is_changed(new, present, same=present.is_new):
        return Fate.CREATE
    return Fate.OFFER if new.has(FileFlag.NO_REPLACE) else Fate.BACK_UP


def is_changed(file: RpmFile, present: Present, *, same: bool) -> bool:
    """Tell whether a configuration file isn't as a package has it: it is never lost."""
    unsure = kind_of_file(file) not in _KEPT_TYPES or file.has(FileFlag.GHOST)
    return file.has(FileFlag.CONFIG) and (unsure or not same)
