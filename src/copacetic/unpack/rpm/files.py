# SPDX-License-Identifier: Apache-2.0
"""What a package's list of files means for a tree: what each one is, and which of them are one file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from copacetic.errors import PackageError
from copacetic.oci.filesystem import FileType, kind_of
from copacetic.rpm.files import FileFlag, RpmFile
from copacetic.unpack.package import PathList

__all__ = [
    "agree",
    "directory_of",
    "group_links",
    "has_content_of",
    "kind_of_file",
    "require_no_record",
    "require_plain",
]

_RECORDS = re.compile(r"(?:var/lib|usr/lib/sysimage|usr/share)/rpm/[^/]+|var/lib/rpmmanifest/.+")
"""rpm itself lists its tables, but ships none of them."""
_LONGEST = 4096


def kind_of_file(file: RpmFile) -> FileType | None:
    """Return what a file is; None for what no layer holds (a socket)."""
    return kind_of(file.mode)


def directory_of(file: RpmFile) -> str:
    return file.path.rpartition("/")[0]


def has_content_of(one: RpmFile, other: RpmFile) -> bool:
    """Tell whether two packages ship the same bytes, or a link to the same target."""
    if one.is_link and other.is_link:
        return one.target == other.target
    both = one.is_regular and other.is_regular and one.digest != ""
    return both and (one.algorithm, one.digest) == (other.algorithm, other.digest)


def agree(one: RpmFile, other: RpmFile) -> bool:
    """Tell whether two packages may have one path: they ship the same, or one of them nothing."""
    if one.has(FileFlag.GHOST) or other.has(FileFlag.GHOST):
        return True
    same = (one.mode, one.user, one.group) == (other.mode, other.user, other.group)
    if not same or one.is_directory:
        return same
    if one.is_regular or one.is_link:
        return one.size == other.size and has_content_of(one, other)
    return one.device_number == other.device_number


def require_plain(files: Sequence[RpmFile], label: str) -> None:
    """Raise `PackageError` for a list of files that can't be put into a layer as it is."""
    paths = PathList(label, _RECORDS)
    seen: set[str] = set()
    for file in files:
        kind = kind_of_file(file)
        if len(file.path) > _LONGEST or len(file.target) > _LONGEST:
            raise PackageError(
                f"{label}: {file.path[:200]!r} has a name or a target of more than {_LONGEST} characters"
            )
        if kind is None:
            raise PackageError(f"{label}: {file.path!r} is a socket, which no layer holds")
        if file.is_regular and file.algorithm == "" and not file.has(FileFlag.GHOST):
            raise PackageError(f"{label}: {file.path!r} has a digest of a kind that is not known")
        if file.path == "" and not file.is_directory:
            raise PackageError(f"{label}: the root is not a directory in it")
        if file.path in seen:
            raise PackageError(f"{label}: {file.path!r} is there twice")
        seen.add(file.path)
        if file.path and not file.has(FileFlag.GHOST):
            paths.add(file.path, kind)


def require_no_record(file: RpmFile, canonical: str, label: str) -> None:
    """Raise `PackageError` for a file that links of the image lead to rpm's own database."""
    if _RECORDS.fullmatch(canonical) and not file.has(FileFlag.GHOST):
        raise PackageError(f"{label}: {file.path!r} leads to {canonical}, the package manager's own record")


def group_links(files: Sequence[RpmFile]) -> Mapping[str, tuple[str, ...]]:
    """Return, by path, all names of a file that has several, in the list's order; others are left out."""
    groups: dict[tuple[int, int], list[str]] = {}
    for file in files:
        if file.is_regular and not file.has(FileFlag.GHOST):
            groups.setdefault((file.device, file.inode), []).append(file.path)
    return {path: tuple(group) for group in groups.values() if len(group) > 1 for path in group}
