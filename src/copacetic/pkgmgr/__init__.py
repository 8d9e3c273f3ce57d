# SPDX-License-Identifier: Apache-2.0
"""
Package managers as graphs: how an image's own one is run so that packages change, described and not done.

A package manager is one package or module with a class that follows `PackageManager`, which the row of its family
names (`families`), with the programs by which an image that has it is known. It looks at the image first, without
running anything, and refuses what can't work; then it says what has to be run, on what, and what of the result is no
part of it.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

from copacetic.errors import NeedsExecutionError, UnsupportedImageError
from copacetic.families import family_of
from copacetic.inventory import PackageDatabase
from copacetic.llb.graph import ProxyEnv, State
from copacetic.loader import load
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.pkgmgr.probe import has_program
from copacetic.updates import FetchedPackage, PackageKey, ScriptClass

__all__ = [
    "ACCOUNT_LEFTOVERS",
    "MOUNTED_FILES",
    "Content",
    "Leftover",
    "PackageManager",
    "Recipe",
    "Upgrade",
    "count_packages",
    "is_leftover",
    "open_package_manager",
    "scripts_left_out",
    "shared_key",
]


Content: TypeAlias = Path | bytes | tuple[bytes | Spooled, ...]
"""A file that a builder gets: one of this machine's, bytes, or several pieces put together."""


MOUNTED_FILES = ("etc/hosts", "etc/resolv.conf")
"""Files in place of which a sandbox may have its own, whoever makes it."""


class Leftover(Struct, frozen=True, kw_only=True):
    """Something that running a package manager leaves behind and that is no part of the result."""

    pattern: str
    """Of canonical paths, as in `fnmatch`: a star goes over slashes, too."""
    reason: str
    files_only: bool = False
    """Directories stay: packages and their scripts make some that matter (a service's own folder for its logs)."""
    unless: str = ""
    """A canonical path: where the run has changed that, too, this is no leftover."""

    def matches(self, path: str, type_: FileType | None) -> bool:
        """Tell whether a change of this path is one; `type_` is None for a removal."""
        if self.files_only and type_ is FileType.DIRECTORY:
            return False
        return fnmatch.fnmatchcase(path, self.pattern)


ACCOUNT_LEFTOVERS: tuple[Leftover, ...] = (
    Leftover(pattern="etc/.pwd.lock", reason="a lock of useradd and its kin"),
    *(
        Leftover(pattern=f"etc/{name}-", reason="a backup of useradd and its kin")
        for name in ("passwd", "group", "shadow", "gshadow")
    ),
)
"""What programs that add accounts leave, whatever the format of packages."""


def is_leftover(leftovers: Iterable[Leftover], path: str, type_: FileType | None) -> bool:
    """Tell whether any of the rules is about a change."""
    return any(rule.matches(path, type_) for rule in leftovers)


def shared_key(words: Iterable[str]) -> str:
    """Return the hint under which a builder keeps a directory between runs: another set is another directory."""
    return "copacetic:" + hashlib.sha256("\n".join(words).encode()).hexdigest()


def count_packages(packages: Sequence[FetchedPackage]) -> str:
    """Say how many there are, in the name of a run."""
    return f"{len(packages)} package{'s' * (len(packages) != 1)}"


def scripts_left_out(packages: Sequence[FetchedPackage]) -> tuple[str, ...]:
    """
    Name what an image without a shell goes without, as it did when it was built. Raises `NeedsExecutionError` for what
    it can't do without.
    """
    notes: list[str] = []
    for script in (script for package in packages for script in package.update.scripts):
        if script.verdict is ScriptClass.NEEDS_EXECUTION:
            raise NeedsExecutionError(
                f"{script.package}: {script.script} would have to be run, and the image has no shell: {script.reason}"
            )
        if script.verdict is ScriptClass.REPRODUCED:
            notes.append(f"{script.package}: {script.script} was not run, for the image has no shell")
    return tuple(notes)


class Recipe(Struct, frozen=True, kw_only=True):
    """Runs of package managers, ready to be solved: what lies between `base` and `result` is the new layer."""

    base: State
    result: State
    directories: Mapping[str, Mapping[str, Content]] = {}
    """What each `local` source holds, by relative path; no two package managers give one the same name."""
    leftovers: tuple[Leftover, ...] = ()
    mounted: tuple[str, ...] = ()
    """Patterns of canonical paths at which the run has something of its own, besides those of every sandbox."""
    generated: tuple[str, ...] = ()
    """Patterns of what is written by the run, whatever time it puts on it: such files get the epoch."""
    records: Mapping[str, bytes | None] = {}
    """Files of the package database that the run doesn't write itself; None removes one."""
    records_times: bool = False
    """Whether the package database has the times of files: a file of another time is another one, then."""
    drops_bytecode: bool = False
    """Whether stale byte code goes from the image, as the format's `Unpacker` does it, whoever made it."""
    runs_scripts: bool = True
    """Whether packages' scripts are run, which may leave more than packages ship."""
    notes: tuple[str, ...] = ()
    """What a user should know about the run, as sentences."""
    names: Mapping[str, str] = {}
    """What the files of packages are called for people, by the names that the run sees."""

    def then(self, after: Recipe) -> Recipe:
        """Return both as one; `after` begins where this one ends."""
        return Recipe(
            base=self.base,
            result=after.result,
            directories={**self.directories, **after.directories},
            leftovers=(*self.leftovers, *after.leftovers),
            mounted=(*self.mounted, *after.mounted),
            generated=(*self.generated, *after.generated),
            records={**self.records, **after.records},
            records_times=self.records_times or after.records_times,
            drops_bytecode=self.drops_bytecode or after.drops_bytecode,
            runs_scripts=self.runs_scripts or after.runs_scripts,
            notes=(*self.notes, *after.notes),
            names={**self.names, **after.names},
        )

    def with_names(self, text: str) -> str:
        """Put the names for people into what the run has said."""
        for file, name in self.names.items():
            text = text.replace(file, name)
        return text


class Upgrade(Struct, frozen=True, kw_only=True):
    """An upgrade that only the builder can plan, for only it reaches the repositories."""

    names: tuple[PackageKey, ...] | None
    """Installed packages; None means every one."""
    repository_state: str
    """What the repositories hold, as a digest, or something unique: another value is never served from a cache."""
    proxy: ProxyEnv | None = None
    allow_unsigned: bool = False
    """The user's word: without it an image that tells its package manager to take unsigned repositories is refused."""
    allow_expired: bool = False


class PackageManager(Protocol):
    """Changes packages of one format by running programs."""

    tooling_image: str
    """The image that brings the programs where one has none, unless the user names another."""

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase) -> PackageManager:
        """
        Look whether the image can do it; nothing is run.

        Raises `UnsupportedImageError`, naming what is missing or out of order.
        """
        ...

    @property
    def needs_tooling(self) -> bool:
        """Whether another image has to bring the programs, because this one has none."""
        ...

    @property
    def runs_scripts(self) -> bool:
        """Whether packages' scripts are run: an image without a shell never ran any, and a run doesn't change that."""
        ...

    def install(self, base: State, packages: Sequence[FetchedPackage], *, tooling: State | None) -> Recipe:
        """
        Install exactly these packages, without any network.

        Raises `UnsupportedImageError`, and `NeedsExecutionError` for a script that has to be run and can't be.
        """
        ...

    def upgrade(self, base: State, upgrade: Upgrade) -> Recipe:
        """
        Refresh the indexes and upgrade in one run, with the network.

        Raises `UnsupportedImageError` for an image that can't do that itself.
        """
        ...


def open_package_manager(fs: ImageFilesystem, database: PackageDatabase) -> PackageManager:
    """
    Return the image's package manager: of those that go with its package database the one whose program it has, and
    the first where it has none. See `PackageManager.open`.
    """
    rows = family_of(database.package_type).package_managers
    if not rows:
        raise UnsupportedImageError(
            f"nothing of an image with {database.package_type} packages can be run yet",
            hint="--strategy unpack patches what needs no execution",
        )
    row = next((row for row in rows if any(has_program(fs, place) for place in row.places)), rows[0])
    manager: PackageManager = load(row.entry).open(fs, database)
    return manager
