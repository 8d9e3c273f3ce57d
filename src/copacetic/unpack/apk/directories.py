# SPDX-License-Identifier: Apache-2.0
"""
Directories while packages are being installed: made when a package brings one, removed when the last one drops it.

Several packages list the same directory, each with an owner and a mode. apk 2 takes the lowest user, then the lowest
group, and of those with that owner the permissions that all grant; apk 3 takes what one package says. A directory
that isn't as the packages say is the administrator's, and stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from copacetic.apk.tools import ApkTools
from copacetic.inventory.apk import Owner
from copacetic.inventory.apk.scripts import display_key
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.unpack.apk.holders import Holder, Holders

__all__ = ["Directories"]


class Directories:
    """The directories of one commit; apk starts afresh for each."""

    def __init__(self, tree: TreeBuilder, holders: Holders, tools: ApkTools) -> None:
        self._tree = tree
        self._holders = holders
        self._tools = tools
        self._listed: Counter[str] = Counter()
        """How many packages list a directory, or something below it."""
        self._expected: dict[str, tuple[Owner, Holder]] = {}
        self._follows: dict[str, bool] = {}
        """Whether a directory's owner and mode are those that the packages say."""
        self.touched: set[str] = set()
        """Directories, as packages spell them, in which files came or went."""
        for holder in holders:
            self._listed.update(_closure(holder.directories))
            for path, owner in holder.directories.items():
                self._merge(path, owner, holder)

    @property
    def known(self) -> frozenset[str]:
        """Every directory that a package lists or listed during the commit, and those above."""
        return frozenset(self._listed)

    def prepare(self, path: str, *, mode: int | None, mtime: int = 0) -> None:
        """Look at a directory before anything happens in it; make it when a package brings it with a mode."""
        if not path or path in self._follows:
            return
        entry = self._tree.lookup(path)
        if entry is not None:
            expected = self._expected.get(path)
            self._follows[path] = (
                expected is not None
                and entry.type is FileType.DIRECTORY
                and (entry.uid, entry.gid, entry.mode) == _attributes(expected[0])
            )
        elif mode is not None:
            self._tree.put(self._tree.resolve(path), Entry(type=FileType.DIRECTORY, mode=mode, mtime=mtime))
            self._follows[path] = True

    def add(self, holder: Holder) -> None:
        """Count a package that is new, or the new version of one."""
        self._listed.update(_closure(holder.directories))

    def drop(self, holder: Holder) -> None:
        """Stop counting a package, and remove the directories that nobody lists any more, where they are empty."""
        closure = _closure(holder.directories)
        self._listed.subtract(closure)
        gone = [path for path in closure if self._listed[path] <= 0]
        for path in sorted(gone, key=lambda path: (-path.count("/"), path)):
            entry = self._tree.lookup(path, follow=False)
            if entry is not None and entry.type is FileType.DIRECTORY:
                self._tree.remove(path)
                if self._tools.is_apk3:
                    self.touched.add(path)
            self._follows.pop(path, None)
            self._expected.pop(path, None)

    def settle(self) -> None:
        """Give the directories the owners and modes that the packages have now; apk does so last."""
        wanted: dict[str, tuple[Owner, Holder]] = {}
        for holder in self._holders:
            for path, owner in holder.directories.items():
                if self._follows.get(path):
                    known = wanted.get(path)
                    wanted[path] = (owner, holder) if known is None else self._prefer(known, (owner, holder))
        for path, (owner, _) in wanted.items():
            entry = self._tree.lookup(path)
            if entry is None or entry.type is not FileType.DIRECTORY:
                continue
            if (entry.uid, entry.gid, entry.mode) != _attributes(owner):
                changed = dataclasses.replace(entry, uid=owner.uid, gid=owner.gid, mode=owner.mode, implicit=False)
                self._tree.put(self._tree.resolve(path), changed)

    def _merge(self, path: str, owner: Owner, holder: Holder) -> None:
        """Note that a package lists a directory."""
        known = self._expected.get(path)
        self._expected[path] = (owner, holder) if known is None else self._prefer(known, (owner, holder))

    def _prefer(self, known: tuple[Owner, Holder], other: tuple[Owner, Holder]) -> tuple[Owner, Holder]:
        if self._tools.is_apk3:
            return other if _gives_way(known[1], other[1]) else known
        one, two = known[0], other[0]
        if (two.uid, two.gid) < (one.uid, one.gid):
            return other
        if (two.uid, two.gid) == (one.uid, one.gid):
            return replace(one, mode=one.mode & two.mode), known[1]
        return known


def _gives_way(known: Holder, other: Holder) -> bool:
    """Tell whether apk 3 takes a directory's attributes from another package than the one it has them from."""
    if known.name == other.name:
        return True
    if known.priority != other.priority:
        return known.priority < other.priority
    if known.origin and known.origin == other.origin and known.origin in (known.name, other.name):
        return known.origin == other.name
    return display_key(known.name) > display_key(other.name)


def _attributes(owner: Owner) -> tuple[int, int, int]:
    return owner.uid, owner.gid, owner.mode


def _closure(paths: Iterable[str]) -> set[str]:
    """Return the directories with all those above them."""
    found: set[str] = set()
    for path in paths:
        above = path
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found
