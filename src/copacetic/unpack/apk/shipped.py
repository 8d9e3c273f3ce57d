# SPDX-License-Identifier: Apache-2.0
"""What an apk package says of its files."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from copacetic.oci.filesystem import FileType
from copacetic.unpack.apk.install import NEW_SUFFIX, further_name
from copacetic.unpack.apk.package import ApkPackage
from copacetic.unpack.apk.payload import ApkFileEntry
from copacetic.unpack.apk.protected import ProtectedPaths
from copacetic.unpack.shipped import ShippedPackage, ShippedPath

__all__ = ["describe_shipped"]


def describe_shipped(package: ApkPackage, payload: Sequence[ApkFileEntry], protected: ProtectedPaths) -> ShippedPackage:
    """Further names of a file change its attributes, as apk makes them one after the other."""
    found: dict[str, ShippedPath] = {}
    names: dict[str, list[str]] = {}
    for entry in payload:
        raw, first = entry.raw, entry.hardlink
        if first in found and first:
            names.setdefault(first, [first]).append(entry.path)
            known = found[first]
            mode, xattrs = further_name(known.mode, known.xattrs, raw)
            changed = replace(known, mode=mode, xattrs=xattrs, uid=raw.uid, gid=raw.gid, user=raw.user, group=raw.group)
            found.update({name: replace(changed, path=name) for name in names[first]})
            continue
        is_link = entry.type is FileType.SYMLINK
        found[entry.path] = ShippedPath(
            path=entry.path,
            type=entry.type,
            mode=0o777 if is_link else raw.mode,
            uid=raw.uid,
            gid=raw.gid,
            user=raw.user,
            group=raw.group,
            target=raw.link if is_link else "",
            sha256=entry.sha256,
            device=raw.device,
            xattrs={} if is_link or entry.type is FileType.DIRECTORY else raw.xattrs,
            is_configuration=entry.type is not FileType.DIRECTORY and protected.protects(entry.directory),
        )
    return ShippedPackage(
        key=package.key,
        label=package.label,
        paths=tuple(found.values()),
        scripts="\n".join(text.decode("utf-8", "surrogateescape") for text in package.scripts.values()),
        suffixes=(NEW_SUFFIX,),
    )
