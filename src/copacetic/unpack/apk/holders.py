# SPDX-License-Identifier: Apache-2.0
"""
Who has which path: the packages' lists while packages are being installed.

A file belongs to one package. Another one takes it over when both come from the same source, or when its `replaces`
says so; the higher `replaces_priority` wins where each names the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from copacetic.apk.dependency import DependencyError, parse_dependencies
from copacetic.apk.stanza import ApkStanza
from copacetic.apk.tools import ApkTools
from copacetic.errors import ConflictError, PackageError
from copacetic.inventory.apk import ApkDirectory, ApkRecord, ListedFile, Owner
from copacetic.strict import read_digits
from copacetic.updates import InstalledPackage

__all__ = ["Holder", "Holders"]


@dataclass(slots=True, eq=False)
class Holder:
    """A package with its list, which changes while others take over files."""

    stanza: ApkStanza
    directories: dict[str, Owner] = field(default_factory=dict)
    """In the list's order."""
    files: dict[str, ListedFile] = field(default_factory=dict)
    """By path, in the list's order."""
    installed: InstalledPackage | None = None
    """The row of the image's database that this stands for; None for a package that comes."""
    lost: bool = False
    """Another package has taken over some of its files."""

    @classmethod
    def of(cls, package: InstalledPackage, record: ApkRecord) -> Holder:
        """Return what the database says."""
        return cls(
            stanza=record,
            directories={directory.path: directory.owner for directory in record.directories},
            files=dict(record.files()),
            installed=package,
        )

    @property
    def name(self) -> str:
        return self.stanza.name

    @property
    def version(self) -> str:
        return self.stanza.version

    @property
    def origin(self) -> str:
        return self.stanza.origin

    @property
    def priority(self) -> int:
        """`replaces_priority`."""
        return read_digits(self.stanza.fields.get("q", ""), most=11) or 0

    def replaces(self, other: Holder, scheme: str) -> bool:
        """Tell whether this package's `replaces` names the other one as it is."""
        try:
            wanted = parse_dependencies(self.stanza.fields.get("r", ""))
        except DependencyError as error:
            raise PackageError(f"{self.name} {self.version}: replaces: {error}") from error
        return any(
            one.name == other.name and one.matches(other.version, other.stanza.identity, scheme) != one.conflict
            for one in wanted
        )

    def record(self) -> ApkRecord:
        """Return the list as the database has to know it."""
        files: dict[str, list[ListedFile]] = {path: [] for path in self.directories}
        for path, file in self.files.items():
            files[path.rpartition("/")[0]].append(file)
        directories = tuple(ApkDirectory(path, owner, tuple(files[path])) for path, owner in self.directories.items())
        return ApkRecord(fields=self.stanza.fields, directories=directories)


class Holders:
    """All packages of an image, and the files that they have."""

    def __init__(self, holders: Iterable[Holder], tools: ApkTools) -> None:
        self._by_name = {holder.name: holder for holder in holders}
        self._owners = {path: holder for holder in self._by_name.values() for path in holder.files}
        self._tools = tools

    def __iter__(self) -> Iterator[Holder]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Holder | None:
        """Return a package by its name."""
        return self._by_name.get(name)

    def owner(self, path: str) -> Holder | None:
        """Return who has a file."""
        return self._owners.get(path)

    def allows(self, new: Holder, path: str) -> bool:
        """
        Tell whether a package may put a file; False means that the file stays another's, and isn't even recorded.

        Raises `ConflictError` when neither gives way, where apk itself gives up.
        """
        owner = self._owners.get(path)
        if owner is None or owner.name == new.name:
            return True
        same_source = owner.origin != "" and owner.origin == new.origin
        if same_source and not self._tools.is_apk3:
            return True
        scheme = self._tools.version_scheme
        theirs = owner.priority if owner.replaces(new, scheme) else -1
        ours = new.priority if new.replaces(owner, scheme) else -1
        if theirs > ours:
            return False
        if ours < 0 and not same_source:
            raise ConflictError(f"{new.name} {new.version} would overwrite {path} of {owner.name} {owner.version}")
        return True

    def take(self, new: Holder, path: str) -> None:
        """Give a file to a package, and take it from whoever had it."""
        owner = self._owners.get(path)
        if owner is not None and owner is not new:
            owner.files.pop(path, None)
            owner.lost = True
        self._owners[path] = new

    def drop(self, holder: Holder, path: str) -> None:
        """Forget that a package has a file."""
        if self._owners.get(path) is holder:
            del self._owners[path]

    def replace(self, old: Holder | None, new: Holder) -> None:
        """Put a package in the place of its old version."""
        if old is not None:
            del self._by_name[old.name]
        self._by_name[new.name] = new

    def altered(self) -> Mapping[InstalledPackage, ApkRecord]:
        """Return the packages that stay and have lost files to others."""
        return {
            holder.installed: holder.record()
            for holder in self._by_name.values()
            if holder.installed is not None and holder.lost
        }
