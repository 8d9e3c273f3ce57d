# SPDX-License-Identifier: Apache-2.0
"""
What rpm, the managers in front of it and scriptlets leave behind, each with its reason. Nothing that a package ships
or its database says may stand here.
"""

from __future__ import annotations

from copacetic.pkgmgr import ACCOUNT_LEFTOVERS, Leftover

__all__ = ["LEFTOVERS", "in_database"]

LEFTOVERS: tuple[Leftover, ...] = (
    Leftover(pattern="var/log/*", reason="logs of the run", files_only=True),
    Leftover(pattern="var/tmp/rpm-tmp.*", reason="where rpm has scriptlets while they run"),
    Leftover(pattern="var/cache/dnf/*", reason="dnf's indexes and downloads"),
    Leftover(pattern="var/cache/libdnf5/*", reason="likewise"),
    Leftover(pattern="var/cache/yum/*", reason="yum's indexes and downloads"),
    Leftover(pattern="var/cache/tdnf/*", reason="tdnf's indexes and downloads"),
    Leftover(pattern="var/cache/zypp/*", reason="zypper's indexes and downloads"),
    Leftover(pattern="var/lib/dnf/*", reason="dnf's history: who wanted what doesn't change", files_only=True),
    Leftover(pattern="var/lib/yum/*", reason="yum's history", files_only=True),
    Leftover(pattern="var/lib/zypp/AnonymousUniqueId", reason="the identity of one machine"),
    Leftover(pattern="var/lib/tdnf/*", reason="tdnf's history", files_only=True),
    Leftover(pattern="var/cache/ldconfig/aux-cache", reason="a cache of ldconfig for itself"),
    *ACCOUNT_LEFTOVERS,
)


def in_database(folder: str) -> tuple[Leftover, ...]:
    """Return what rpm leaves beside its tables, in whatever directory an image has them."""
    return (Leftover(pattern=f"{folder}/.*.lock", reason="a lock"),)
