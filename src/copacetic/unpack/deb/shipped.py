# SPDX-License-Identifier: Apache-2.0
"""What a Debian package says of its files, with what the administrator has told dpkg about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.filesystem import FileType
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.deb.install import STATOVERRIDE
from copacetic.unpack.deb.package import DebPackage
from copacetic.unpack.deb.payload import DebEntry
from copacetic.unpack.shipped import ShippedPackage, ShippedPath

__all__ = ["describe_shipped"]

_SPECIAL = (FileType.DIRECTORY, FileType.SYMLINK)
_SUFFIXES = (".dpkg-dist", ".dpkg-new")


def describe_shipped(
    package: DebPackage,
    payload: Sequence[DebEntry],
    database: DpkgDatabase,
    accounts: Accounts,
    *,
    only: Collection[str] | None = None,
) -> ShippedPackage:
    """
    Leave out what the image's filters keep away, and what isn't in `only`, where the image has slices of packages;
    names of one file have what the last of them says.
    """
    filters = database.path_filters
    kept = {
        entry.path: entry
        for entry in payload
        if only is None or entry.path in only
        if not entry.path or not filters.excludes(entry.path, directory_or_link=entry.type in _SPECIAL)
    }
    attributes = _attributes(package, kept)
    by_path = {entry.path: entry for entry in payload} if attributes else kept
    paths = []
    for path, entry in kept.items():
        origin = entry
        while origin.hardlink:
            origin = by_path[origin.hardlink]
        said = attributes.get(path, entry)
        mode, uid, gid, user, group = said.mode, said.uid, said.gid, said.user, said.group
        override = database.statoverrides.get(path)
        if override is not None and origin.type is not FileType.SYMLINK:
            uid, gid = accounts.require(override.user, override.group, named_in=STATOVERRIDE)
            mode, user, group = override.mode, "", ""
        paths.append(
            ShippedPath(
                path=path,
                type=origin.type,
                mode=mode,
                uid=uid,
                gid=gid,
                user=user,
                group=group,
                target=origin.target,
                sha256=origin.sha256,
                is_configuration=path in package.conffiles and origin.type is FileType.FILE,
            )
        )
    return ShippedPackage(
        key=package.key,
        label=package.label,
        paths=tuple(paths),
        scripts="\n".join(package.scripts.values()),
        suffixes=_SUFFIXES,
    )


def _attributes(package: DebPackage, kept: Mapping[str, DebEntry]) -> Mapping[str, DebEntry]:
    """Return, for every path that is one of several names, the entry whose attributes the file has."""
    first: dict[str, str] = {}
    last: dict[str, DebEntry] = {}
    for path, entry in kept.items():
        if entry.hardlink:
            is_name = entry.hardlink in kept and entry.hardlink not in package.conffiles
            first[path] = first.setdefault(entry.hardlink, entry.hardlink) if is_name else path
            last[first[path]] = entry
    return {path: last[one] for path, one in first.items() if one in last}
