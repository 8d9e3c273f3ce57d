# SPDX-License-Identifier: Apache-2.0
"""
Names of users and groups to numbers, by the image's own `passwd` and `group`.

As in dpkg and apk, a payload's names count before its numbers, and a name that the image doesn't have leaves the
number.
"""

from __future__ import annotations

from collections.abc import Mapping

from copacetic.errors import InventoryError
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.strict import read_digits

__all__ = ["Accounts"]

MAX_FILE = 16 * 1024 * 1024


class Accounts:
    """The image's users and groups, as they are when this is made."""

    def __init__(self, tree: TreeBuilder | ImageFilesystem) -> None:
        self._users = _read_numbers(tree, "etc/passwd") or {"root": 0}
        self._groups = _read_numbers(tree, "etc/group") or {"root": 0}

    def owner(self, user: str, uid: int, group: str, gid: int) -> tuple[int, int]:
        """Return the owner of a payload's entry."""
        return self._users.get(user, uid), self._groups.get(group, gid)

    def require(self, user: str, group: str, *, named_in: str) -> tuple[int, int]:
        """Return the owner that a file of the image names. Raises `InventoryError` for a name that isn't there."""
        return _number(user, self._users, f"{named_in} names the user"), _number(
            group, self._groups, f"{named_in} names the group"
        )


def _number(name: str, known: Mapping[str, int], what: str) -> int:
    if name.startswith("#") and read_digits(name[1:], most=10) is not None:
        return int(name[1:])
    if name not in known:
        raise InventoryError(f"{what} {name[:100]!r}, which the image lacks")
    return known[name]


def _read_numbers(tree: TreeBuilder | ImageFilesystem, path: str) -> Mapping[str, int]:
    """Read the first and third column; the first line with a name counts, broken lines don't."""
    try:
        text = tree.read(path, limit=MAX_FILE).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    found: dict[str, int] = {}
    for line in split_lines(text):
        row = line.split(":")
        if len(row) > 2 and row[0] and row[2].isdecimal() and len(row[2]) < 11:
            found.setdefault(row[0], int(row[2]))
    return found
