# SPDX-License-Identifier: Apache-2.0
"""
An image's users and groups: names to numbers, and the files as programs that make accounts write them.

As in dpkg and apk, a payload's names count before its numbers, and a name that the image doesn't have leaves the
number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from msgspec import Struct

from copacetic.errors import InventoryError
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.strict import read_digits

__all__ = ["AccountFiles", "Accounts", "login_group", "read_rows"]

FIRST, LAST = 100, 999
"""The numbers of system users and groups."""
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


def _read_numbers(tree: TreeBuilder | ImageFilesystem, path: str, *, column: int = 2) -> Mapping[str, int]:
    """Read the first and another column; the first line with a name counts, broken lines don't."""
    found: dict[str, int] = {}
    for row in read_rows(tree, path):
        if len(row) > column and row[0] and row[column].isdecimal() and len(row[column]) < 11:
            found.setdefault(row[0], int(row[column]))
    return found


def login_group(tree: TreeBuilder | ImageFilesystem, user: str) -> int:
    """Return the number of a user's own group; -1 for nobody's."""
    return _read_numbers(tree, "etc/passwd", column=3).get(user, -1)


def read_rows(tree: TreeBuilder | ImageFilesystem, path: str) -> list[list[str]]:
    """Return the lines of a file, apart at the colons; none without the file."""
    try:
        text = tree.read(path, limit=MAX_FILE).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return [line.split(":") for line in split_lines(text)]


class AccountFiles(Struct, frozen=True):
    """`passwd`, `group` and their shadows. New rows go to the end."""

    tree: TreeBuilder
    mtime: int
    backups: bool = False
    """Each file as it was before stays as `passwd-` and so on, as busybox leaves it."""

    def find(self, name: str, key: str) -> list[str] | None:
        return next((row for row in read_rows(self.tree, f"etc/{name}") if row[0] == key and len(row) > 2), None)

    def find_number(self, name: str, wanted: str = "") -> str | None:
        """Return the first number that is free, or the one that is wanted; None for one that is taken."""
        taken = {row[2] for row in read_rows(self.tree, f"etc/{name}") if len(row) > 2}
        numbers = [wanted] if wanted else map(str, range(FIRST, LAST + 1))
        return next((number for number in numbers if number not in taken), None)

    def append(self, name: str, *row: str) -> None:
        self._update(name, lambda rows: [*rows, [*row]])

    def add_member(self, name: str, group: str, user: str, *, again: bool = False) -> None:
        """Add a user to a group; `again` also where it has the user already."""

        def add(row: list[str]) -> list[str]:
            if row[0] != group or len(row) != 4 or (not again and user in row[3].split(",")):
                return row
            return [*row[:3], f"{row[3]},{user}" if row[3] else user]

        self._update(name, lambda rows: [add(row) for row in rows])

    def _update(self, name: str, change: Callable[[list[list[str]]], Sequence[Sequence[str]]]) -> None:
        path = f"etc/{name}"
        entry, rows = self.tree.lookup(path), read_rows(self.tree, path)
        if entry is None or not (rows or self.backups):
            return
        content = "".join(f"{':'.join(row)}\n" for row in change(rows)).encode("utf-8", "surrogateescape")
        if self.backups:
            self.tree.put(f"{path}-", replace(entry, link_group=""), self.tree.read(path, limit=MAX_FILE))
            self.tree.put(path, replace(entry, sha256="", link_group=""), content)
        else:
            self.tree.write(path, content, mtime=self.mtime)
