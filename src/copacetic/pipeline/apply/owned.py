# SPDX-License-Identifier: Apache-2.0
"""
What the packages that a run changed own, and what they say of it that the run can't show.

A sandbox has its own `/dev` and `/etc/hosts`, and nothing that was put there is seen afterwards; a directory has the
time of the last file that came into it. What belongs to a package is then as the embedded engine installs it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import cast

from msgspec import Struct

from copacetic.errors import SolverError
from copacetic.inventory import PackageDatabase, find_again
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.pkgmgr import MOUNTED_FILES

__all__ = ["Owned", "Patterns", "Shipped", "concealed_by"]

_FOLDERS = ("dev", "proc", "sys")
_NEW = ".apk-new"
_BESIDE = ("", _NEW, ".dpkg-*")
"""A package manager that can't replace a file puts the new one beside it."""


class Patterns:
    """Canonical paths by patterns as in `fnmatch`, all looked for at once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._match = re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match

    def __contains__(self, path: str) -> bool:
        return self._match(path) is not None


def concealed_by(mounted: Iterable[str]) -> Patterns:
    """Return the paths that a run can't change, as something is mounted there; `mounted` are a recipe's own."""
    files = (*MOUNTED_FILES, *mounted)
    return Patterns((*(f"{folder}/*" for folder in _FOLDERS), *(f + more for f in files for more in _BESIDE)))


class Owned(Struct, frozen=True):
    """Canonical paths of the packages that a run changed."""

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()

    def __contains__(self, path: str) -> bool:
        return path in self.after or path in self.before


class Shipped:
    """
    The packages of one run. `place` puts their files into a tree over the image, no script followed; without it, only
    the builder has them.
    """

    def __init__(
        self,
        fs: ImageFilesystem,
        inventories: Sequence[PackageDatabase],
        place: Callable[[TreeBuilder], None] | None = None,
    ) -> None:
        self.fs = fs
        self._inventories = inventories
        self._place = place

    def owned(self, tree: TreeBuilder) -> Owned:
        """Find what the packages own whose version a result has changed, by the lists of both databases."""
        old: set[str] = set()
        new: set[str] = set()
        for inventory in self._inventories:
            database = find_again(inventory, cast(ImageFilesystem, tree))  # it looks, lists and reads; a tree does that
            before = {(p.key, p.version): p for p in inventory.packages()}
            after = {(p.key, p.version): p for p in database.packages()} if database is not None else {}
            old.update(path for key in before.keys() - after.keys() for path in inventory.files(before[key]))
            new.update(path for key in after.keys() - before.keys() if database for path in database.files(after[key]))
        return Owned(_canonical(old, self.fs.resolve), _canonical(new, tree.resolve))

    @cached_property
    def placed(self) -> TreeBuilder | None:
        """The image with the packages' files; None where only the builder has them."""
        if self._place is None:
            return None
        tree = TreeBuilder(self.fs)
        self._place(tree)
        return tree

    def reveal(self, tree: TreeBuilder, owned: Owned, concealed: Patterns, beside: Mapping[str, str]) -> None:
        """
        Put what packages own, and a run can't show, into the result.

        `beside` has the digests of what the run left where something is mounted. Raises `SolverError` for what only
        the builder knows and couldn't put in its place; what isn't there at all, the proof finds.
        """
        if not any(path in concealed for path in owned.before | owned.after):
            return
        if self.placed is None:
            for path in sorted(path for path in owned.after if f"{path}{_NEW}" in beside):
                present = self.fs.lookup(path, follow=False)
                if present is None or present.sha256 != beside[f"{path}{_NEW}"]:
                    raise SolverError(f"the builder can't replace {path}, as its sandbox has its own there")
            return
        for change in self.placed.finish().entries:
            if change.path not in concealed and change.path not in _FOLDERS:
                continue
            if change.entry is None:
                tree.remove_all(change.path)
            elif change.hardlink and tree.holds(change.hardlink):
                tree.link(change.path, change.hardlink)
            else:
                tree.put(change.path, change.entry, change.content)


def _canonical(paths: Iterable[str], resolve: Callable[..., str]) -> frozenset[str]:
    return frozenset(resolve(path, follow=False) for path in paths)
