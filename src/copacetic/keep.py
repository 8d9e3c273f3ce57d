# SPDX-License-Identifier: Apache-2.0
"""Which files of layers are kept, so that a layer is not fetched again to read them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

__all__ = ["KeepRule", "KeepRules"]


class KeepRule(msgspec.Struct, frozen=True):
    """One file, or all files of one folder."""

    path: str
    """Without the leading slash; a folder's has one at its end, and stands for all that is below."""
    limit: int = 16 * 1024**2
    """A file with more bytes is not kept; with 0 none is, which takes a file out of its folder's rule."""


class KeepRules:
    """
    The rules of one family of packages, or of everybody: what is kept for them is found by their fingerprint, so that
    a change of theirs concerns nobody else.
    """

    def __init__(self, rules: Iterable[KeepRule]) -> None:
        ordered = sorted(((rule.path, rule.limit) for rule in rules), reverse=True)
        self._folders = tuple(row for row in ordered if row[0].endswith("/"))
        """The inner ones before those that they are in."""
        self._any = tuple(path for path, _ in self._folders)
        self._files = {path: limit for path, limit in ordered if not path.endswith("/")}
        text = repr(ordered)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        """Another one for other rules."""

    def select(self, path: str, size: int) -> bool:
        """
        Tell whether a file of that many bytes is kept: of several rules that name it the narrowest counts, and of an
        empty one there is nothing to keep.
        """
        limit = self._files.get(path)
        if limit is None:
            if not path.startswith(self._any):
                return False
            limit = next(limit for folder, limit in self._folders if path.startswith(folder))
        return 0 < size <= limit
