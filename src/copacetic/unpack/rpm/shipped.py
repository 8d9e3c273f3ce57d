# SPDX-License-Identifier: Apache-2.0
"""What an rpm package says of its files, without those that this image leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from copacetic.rpm.files import FileFlag, VerifyFlag
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.rpm.fate import Fate
from copacetic.unpack.rpm.install import describe_entry
from copacetic.unpack.rpm.owners import Decision
from copacetic.unpack.rpm.payload import RpmFileEntry
from copacetic.unpack.rpm.scriptlets import all_scripts
from copacetic.unpack.shipped import ShippedPackage, ShippedPath

__all__ = ["describe_shipped"]

_SUFFIXES = (Fate.OFFER.value,)


def describe_shipped(decision: Decision, payload: Sequence[RpmFileEntry], accounts: Accounts) -> ShippedPackage:
    """Names of owners are left out: who isn't in the image is root to rpm, and lends no rights."""
    package = decision.package
    paths = []
    for entry in payload:
        file = entry.file
        if file.has(FileFlag.GHOST) or decision.fates[file.path].is_left_out:
            continue
        described = describe_entry(entry, accounts)
        may_differ = file.has(FileFlag.CONFIG) or (file.is_regular and not file.verify & VerifyFlag.DIGEST)
        paths.append(
            ShippedPath(
                path=file.path,
                type=described.type,
                mode=described.mode,
                uid=described.uid,
                gid=described.gid,
                user=file.user,
                group=file.group,
                target=described.target,
                sha256=described.sha256,
                device=described.device,
                xattrs=described.xattrs,
                is_configuration=may_differ and not file.is_directory,
            )
        )
    return ShippedPackage(
        key=package.key,
        label=package.label,
        paths=tuple(paths),
        scripts=all_scripts(package.header),
        suffixes=_SUFFIXES,
    )
