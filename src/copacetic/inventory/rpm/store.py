# SPDX-License-Identifier: Apache-2.0
"""The seam behind which the formats of rpm's database stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from copacetic.errors import InventoryError
from copacetic.inventory.rpm.index import IndexRules
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm.header import RpmHeader

__all__ = ["DATABASE_LIMIT", "LOG_LIMIT", "MAX_PACKAGES", "Contents", "RpmStore", "check_count", "read_if_there"]

DATABASE_LIMIT = 512 * 1024 * 1024
LOG_LIMIT = 64 * 1024 * 1024
"""Of what was written last, and not yet to the database itself; rpm moves it there after four megabytes."""
MAX_PACKAGES = 30_000
_LARGEST_NUMBER = 2**31 - 1


class Contents(Struct, frozen=True):
    """What a database holds, whatever its format."""

    headers: Mapping[int, bytes]
    """By their instance numbers, in their order."""
    highest: int
    """The greatest instance number that was ever given; a new package gets the next one."""


class RpmStore(Protocol):
    """One database, in one format."""

    @property
    def format(self) -> str:
        """For people: `rpm sqlite`, …"""
        ...

    @property
    def path(self) -> str:
        """The canonical path of the file with the headers."""
        ...

    @property
    def contents(self) -> Contents: ...

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know of the files, as sentences."""
        ...

    def write(self, headers: Mapping[int, RpmHeader], highest: int, rules: IndexRules) -> Mapping[str, bytes | None]:
        """
        Return the database's files with other contents, by canonical path, each index that it has among them. None
        stands for one that has to go, since rpm would believe it more than the new ones.
        """
        ...


def read_if_there(fs: ImageFilesystem, path: str, limit: int) -> bytes:
    """Read one of a database's files; one that is missing is empty."""
    try:
        return fs.read(path, limit=limit)
    except FileNotFoundError:
        return b""


def check_count(count: int, path: str) -> None:
    """Raises `InventoryError` for more packages than any image has."""
    if count > MAX_PACKAGES:
        raise InventoryError(f"{path} has more than {MAX_PACKAGES} packages")


def check_number(number: int, path: str) -> int:
    """Return an instance number that rpm could have given. Raises `InventoryError`."""
    if not 0 < number <= _LARGEST_NUMBER:
        raise InventoryError(f"{path} has a package with the number {number}")
    return number
