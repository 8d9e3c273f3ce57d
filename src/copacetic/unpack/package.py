# SPDX-License-Identifier: Apache-2.0
"""What opened packages of all formats have in common, and what no honest one contains."""

from __future__ import annotations

import re

from msgspec import Struct

from copacetic.errors import PackageError
from copacetic.oci.change import is_reserved
from copacetic.oci.filesystem import FileType
from copacetic.oci.tarfields import HostileTarError
from copacetic.oci.tarstream import TarLimits, normalise
from copacetic.updates import InstalledPackage, PackageKey

__all__ = ["OpenedPackage", "PathList"]

_LIMITS = TarLimits()
_SHORT = _LIMITS.name // 4
"""A path of so few characters is within all of them."""


class OpenedPackage(Struct, frozen=True, kw_only=True):
    """One package of the plan, its control part read."""

    installed: InstalledPackage | None
    key: PackageKey
    version: str
    size: int
    """Of what is packed, in bytes."""
    installed_size: int
    """In bytes, as the package or its index says; 0 where neither does."""
    built: int
    """When, in seconds since the epoch, by the same."""

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def label(self) -> str:
        """How errors call it."""
        return f"{self.name} {self.version}"


class PathList:
    """The paths of a payload, in its order."""

    def __init__(self, label: str, records: re.Pattern[str]) -> None:
        """`records` matches the files that the package manager keeps itself, whatever a package says of them."""
        self._label = label
        self._records = records
        self._types: dict[str, FileType] = {}
        """Those of directories also where only something below them came."""

    def add(self, path: str, type_: FileType, hardlink: str = "") -> None:
        """Raise `PackageError` for a path that is there already, behind a link of the package, or nobody's to ship."""
        if len(path) > _SHORT:
            self._require_room(path)
        if is_reserved(path):
            raise PackageError(f"{self._label}: {path!r} is a name that image layers keep for whiteouts")
        if type_ is not FileType.DIRECTORY and self._records.fullmatch(path):
            raise PackageError(
                f"{self._label}: {path!r} is the package manager's own record, which no package may ship"
            )
        if path in self._types and not self._types[path] is type_ is FileType.DIRECTORY:
            raise PackageError(f"{self._label}: {path!r} is there twice")
        if hardlink and self._types.get(hardlink) is not FileType.FILE:
            raise PackageError(f"{self._label}: {path!r} is a hard link to {hardlink!r}, no file of it")
        self._types[path] = type_
        parent = path.rpartition("/")[0]
        while parent and self._types.get(parent) is not FileType.DIRECTORY:
            if parent in self._types:
                raise PackageError(f"{self._label}: {path!r} lies behind {parent!r}, which is not a directory")
            self._types[parent] = FileType.DIRECTORY
            parent = parent.rpartition("/")[0]

    def _require_room(self, path: str) -> None:
        """Raise `PackageError` for a path that a layer can't have: too long, too deep."""
        try:
            normalise(path, _LIMITS)
        except HostileTarError as error:
            raise PackageError(f"{self._label}: {error}") from error
