# SPDX-License-Identifier: Apache-2.0
"""What the database knows of one installed package."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from copacetic.errors import InventoryError
from copacetic.rpm.files import RpmFile, read_files
from copacetic.rpm.header import HeaderError, RpmHeader
from copacetic.updates import InstalledPackage

__all__ = ["RpmRecord", "record_of"]


class RpmRecord(Struct, frozen=True):
    """The `record` of an installed package."""

    header: RpmHeader
    number: int
    """The instance: what the database tells packages apart by; never used again for another one."""

    @property
    def files(self) -> tuple[RpmFile, ...]:
        """Raises `InventoryError`."""
        return _read(self.header)


def record_of(package: InstalledPackage) -> RpmRecord:
    """Return what the database knows of a package that comes from one."""
    assert isinstance(package.record, RpmRecord)
    return package.record


@lru_cache(maxsize=64)
def _read(header: RpmHeader) -> tuple[RpmFile, ...]:
    """The last ones are kept: who asks for a package's files mostly asks several times."""
    try:
        return read_files(header)
    except HeaderError as error:
        raise InventoryError(f"the header of {header!r}: {error}") from error
