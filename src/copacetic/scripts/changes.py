# SPDX-License-Identifier: Apache-2.0
"""
Which paths packages change, as far as their lists of checksums tell.

All paths are canonical in the image. A path that may have changed counts as changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.updates import PackageKey

__all__ = ["ChangeSet", "PackageChange"]


class PackageChange(Struct, frozen=True):
    """
    What a package brings, as its control part tells. Paths are canonical; those of regular files only, except that
    `removed` and `added` may have links and directories too.
    """

    key: PackageKey
    files: frozenset[str] = frozenset()
    """Regular files of the new version that aren't configuration files."""
    changed: frozenset[str] = frozenset()
    """Those with other bytes than before, or whose bytes before aren't known."""
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    conffiles: frozenset[str] = frozenset()
    """Configuration files that are shipped with other bytes than before."""


class ChangeSet(Struct, frozen=True):
    """All packages' changes together."""

    files: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    conffiles: frozenset[str] = frozenset()
    packages: frozenset[PackageKey] = frozenset()
    """The keys of all that come or change."""

    @classmethod
    def of(cls, changes: Sequence[PackageChange]) -> ChangeSet:
        """Join them. What one package drops and another one brings has changed."""
        empty: frozenset[str] = frozenset()
        files = empty.union(*(c.files for c in changes))
        added = empty.union(*(c.added for c in changes))
        removed = empty.union(*(c.removed for c in changes))
        moved = added & removed
        return cls(
            files=files,
            changed=empty.union(*(c.changed for c in changes)) | moved,
            added=added - moved,
            removed=removed - moved,
            conffiles=empty.union(*(c.conffiles for c in changes)),
            packages=frozenset(c.key for c in changes),
        )

    @classmethod
    def since(cls, tree: TreeBuilder) -> ChangeSet:
        """Return how a tree differs from the image by now."""
        entries = {path: tree.lookup(path, follow=False) for path in tree.changed_paths()}
        there = [path for path, entry in entries.items() if entry and entry.type is not FileType.DIRECTORY]
        added = frozenset(path for path in there if tree.below(path) is None)
        return cls(
            files=frozenset(path for path, entry in entries.items() if entry and entry.type is FileType.FILE),
            changed=frozenset(there) - added,
            added=added,
            removed=frozenset(path for path, entry in entries.items() if entry is None),
        )

    @property
    def news(self) -> frozenset[str]:
        """Paths under which a script would read something that it has not read before."""
        return self.changed | self.added | self.conffiles

    def below(self, patterns: Sequence[str], *, names_only: bool = False) -> str | None:
        """Return a path under one of the patterns that makes a difference, or None."""
        paths = self.added | self.removed
        if not names_only:
            paths |= self.changed | self.conffiles
        return min((path for path in paths if _is_below(path, patterns)), default=None)


def _is_below(path: str, patterns: Sequence[str]) -> bool:
    return any(
        path == pattern or path.startswith(f"{pattern}/") or ("*" in pattern and fnmatchcase(path, f"{pattern}/*"))
        for pattern in patterns
    )
