# SPDX-License-Identifier: Apache-2.0
"""
Packages of which an image has only slices (chisel): which of their paths are there, and what stands in the way of an
update.

The set of paths stays the same. A package that can't be brought to its new version without another one is refused, and
so is one of which a file would stay as it was: nobody should take that for fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack.deb.package import DebPackage
from copacetic.unpack.deb.payload import DebEntry

__all__ = ["Slices"]

_UNIMPORTANT = ("usr/share/doc/", "usr/share/lintian/", "usr/share/man/")


class Slices:
    """What an image has of one package."""

    def __init__(self, tree: TreeBuilder, database: DpkgDatabase, package: DebPackage) -> None:
        self._tree = tree
        self._package = package
        known = database.sliced_paths(package.installed) if package.installed is not None else None
        self._is_known = known is not None
        self._known = known or ()
        self._ours = {tree.resolve(one.path, follow=False): one for one in self._known}

    def has(self, path: str) -> bool:
        """Tell whether a path of the package is in the image, and there for this package as far as that is known."""
        target = self._tree.resolve(path, follow=False)
        if self._tree.lookup(target, follow=False) is None:
            return False
        return not self._is_known or target in self._ours

    def shipped(self, path: str) -> str:
        """Return the SHA-256 of a file in the old version; empty where no manifest has it."""
        known = self._ours.get(self._tree.resolve(path, follow=False))
        return known.sha256 if known is not None else ""

    def find_obstacle(self, payload: Sequence[DebEntry]) -> str:
        """Say why the package can't be updated; empty when it can."""
        if self._package.installed is None:
            return "only slices of packages are in this image, and no further package comes in"
        ours = [entry for entry in payload if entry.path and self.has(entry.path)]
        changed = next(filter(None, map(self._find_change, ours)), "")
        return changed or self._find_left_behind(payload) or self._find_nothing(payload, ours)

    def placed(self, payload: Sequence[DebEntry]) -> Mapping[str, Entry]:
        """Return what is at the paths that the manifest knows, where it is what the payload has."""
        shipped = self._by_place(payload)
        sums = _sums(payload)
        found = {}
        for one in self._known:
            present = self._tree.lookup(one.path, follow=False)
            entry = shipped.get(self._tree.resolve(one.path, follow=False))
            if present is None or entry is None or entry.type is not present.type:
                continue
            is_link = entry.type is FileType.SYMLINK and entry.target == present.target
            is_file = entry.type is FileType.FILE and present.sha256 == sums[entry.path]
            if (is_link or is_file) and not one.final_sha256:
                found[one.path] = present
        return found

    def _by_place(self, payload: Sequence[DebEntry]) -> Mapping[str, DebEntry]:
        return {self._tree.resolve(entry.path, follow=False): entry for entry in payload}

    def _find_change(self, entry: DebEntry) -> str:
        """Find out whether a path becomes something else, or a link to nothing."""
        target = self._tree.resolve(entry.path, follow=False)
        present = self._tree.lookup(target, follow=False)
        assert present is not None
        if entry.type is FileType.DIRECTORY and present.type is FileType.SYMLINK:
            present = self._tree.lookup(target) or present
        if present.type is not entry.type:
            return f"{entry.path} is a {present.type.value} in the image and would have to become a {entry.type.value}"
        if entry.type is not FileType.SYMLINK or entry.target == present.target:
            return ""
        folder = target.rpartition("/")[0]
        if self._tree.lookup(entry.target if entry.target.startswith("/") else f"{folder}/{entry.target}") is not None:
            return ""
        return f"{entry.path} would become a link to {entry.target}, which is not in the image"

    def _find_left_behind(self, payload: Sequence[DebEntry]) -> str:
        """Find a file of the package, as the manifest knows it, that the new version wouldn't replace."""
        shipped = self._by_place(payload)
        sums = _sums(payload)
        for one in self._known:
            entry = shipped.get(self._tree.resolve(one.path, follow=False))
            if one.sha256 and entry is None:
                return f"{one.path} is not in the new version, and would stay as it is"
            if one.final_sha256 and entry is not None and sums[entry.path] != one.sha256:
                return f"{one.path} was made from the old version by chisel, and can't be made anew"
        return ""

    def _find_nothing(self, payload: Sequence[DebEntry], ours: Sequence[DebEntry]) -> str:
        """Without a manifest, what is there of a package is only known by the paths that it has in both versions."""
        if self._is_known or any(_counts(entry) for entry in ours) or not any(map(_counts, payload)):
            return ""
        return "none of the new version's files is in the image, so nothing tells what it has of the package"


def _counts(entry: DebEntry) -> bool:
    return entry.type is FileType.FILE and not entry.path.startswith(_UNIMPORTANT)


def _sums(payload: Sequence[DebEntry]) -> Mapping[str, str]:
    """Return the SHA-256 of every path, that of its target for a hard link, which comes after it."""
    sums: dict[str, str] = {}
    for entry in payload:
        sums[entry.path] = sums[entry.hardlink] if entry.hardlink else entry.sha256
    return sums
