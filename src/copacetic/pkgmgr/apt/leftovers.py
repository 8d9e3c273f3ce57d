# SPDX-License-Identifier: Apache-2.0
"""
What apt, dpkg and maintainer scripts leave behind, each with its reason. Nothing that a package ships or its
database says may stand here.
"""

from __future__ import annotations

from copacetic.pkgmgr import ACCOUNT_LEFTOVERS, Leftover

__all__ = ["GENERATED", "LEFTOVERS"]

GENERATED = ("var/lib/dpkg/*",)
"""dpkg keeps the package's times on what it keeps of its control part; they say nothing about this image."""

LEFTOVERS: tuple[Leftover, ...] = (
    Leftover(pattern="var/log/*", reason="logs of the run", files_only=True),
    Leftover(pattern="var/lib/apt/lists/*", reason="apt's indexes", files_only=True),
    Leftover(pattern="var/lib/apt/periodic/*", reason="time stamps", files_only=True),
    Leftover(pattern="var/lib/apt/extended_states", reason="what is installed automatically doesn't change"),
    Leftover(pattern="var/cache/apt/*", reason="apt's caches and downloads", files_only=True),
    Leftover(pattern="var/cache/debconf/*-old", reason="debconf's backups"),
    Leftover(
        pattern="var/cache/debconf/templates.dat",
        reason="debconf's copy of the packages' templates, made anew whenever a script asks; the order decides",
        unless="var/cache/debconf/config.dat",
    ),
    Leftover(pattern="var/cache/ldconfig/aux-cache", reason="a cache of ldconfig for itself"),
    Leftover(pattern="var/cache/man/*", reason="man-db's index for apropos, which its own timer renews"),
    Leftover(pattern="var/lib/dpkg/*-old", reason="dpkg's backups of its database"),
    Leftover(pattern="var/lib/dpkg/lock*", reason="locks"),
    Leftover(pattern="var/lib/dpkg/triggers/Lock", reason="a lock"),
    Leftover(pattern="var/lib/dpkg/triggers/Unincorp", reason="an empty file that trigger processing leaves"),
    Leftover(pattern="var/lib/dpkg/available", reason="an empty file that dpkg creates"),
    Leftover(pattern="var/lib/dpkg/updates/*", reason="dpkg's journal"),
    *ACCOUNT_LEFTOVERS,
)
