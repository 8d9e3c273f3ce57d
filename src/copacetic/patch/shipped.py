# SPDX-License-Identifier: Apache-2.0
"""
What the packages that a run changed own, and what they say of it that the run can't show.

A sandbox has its own `/dev` and `/etc/hosts`, and nothing that was put there is seen afterwards; a directory has the
time of the last file that came into it. What belongs to a package is then as the embedded engine installs it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from copacetic.errors import SolverError
from copacetic.inventory import detect_database
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.patch.image import OpenedImage
from copacetic.pkgmgr import MOUNTED_FILES
from copacetic.unpack import open_unpacker
from copacetic.unpack.tree import TreeBuilder
from copacetic.updates import FetchedPackage

__all__ = ["Concealed", "Owned", "Shipped"]

_FOLDERS = ("dev", "proc", "sys", "tmp", "run", "var/tmp")
_BESIDE = ("", ".apk-new", ".dpkg-*")
"""A package manager that can't replace a file puts the new one beside it."""


class Concealed:
    """Which paths of a run's result are the sandbox's, or are thrown away with it. `mounted` are a recipe's own."""

    def __init__(self, mounted: Iterable[str]) -> None:
        files = (*MOUNTED_FILES, "etc/hostname", *mounted)
        self._patterns = (*(f"{folder}/*" for folder in _FOLDERS), *(f + more for f in files for more in _BESIDE))

    def __contains__(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self._patterns)


@dataclass(frozen=True, slots=True)
class Owned:
    """Canonical paths of the packages that a run changed."""

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()

    def __contains__(self, path: str) -> bool:
        return path in self.after or path in self.before


class Shipped:
    """The packages of one run. `packages` is empty where only the builder knows them."""

    def __init__(self, opened: OpenedImage, packages: Sequence[FetchedPackage], scratch: Path) -> None:
        self._fs: ImageFilesystem = opened.fs
        self._database = opened.database
        self._packages = packages
        self._scratch = scratch

    def owned(self, tree: TreeBuilder) -> Owned:
        """Find what the packages own whose version a result has changed, by the lists of both databases."""
        database = detect_database(cast(ImageFilesystem, tree))  # it looks, lists and reads; a tree does that
        before = {(p.name, p.architecture, p.version): p for p in self._database.packages()}
        after = {(p.name, p.architecture, p.version): p for p in database.packages()} if database is not None else {}
        old = (path for key in before.keys() - after.keys() for path in self._database.files(before[key]))
        new = (path for key in after.keys() - before.keys() if database for path in database.files(after[key]))
        return Owned(_canonical(old, self._fs.resolve), _canonical(new, tree.resolve))

    @cached_property
    def placed(self) -> TreeBuilder | None:
        """The image with the packages' files in place, no script followed; None where only the builder has them."""
        if not self._packages:
            return None
        self._scratch.mkdir()
        return open_unpacker(self._fs, self._database).place(self._packages, scratch=self._scratch)

    def reveal(self, tree: TreeBuilder, owned: Owned, concealed: Concealed) -> None:
        """Put what packages own, and a run can't show, into the result. Raises `SolverError` where nobody knows it."""
        hidden = [path for path in owned.before | owned.after if path in concealed]
        if not hidden:
            return
        if self.placed is None:
            raise SolverError(
                f"a package that the builder upgraded owns {min(hidden)}, which is the sandbox's own during a run"
            )
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
