# SPDX-License-Identifier: Apache-2.0
"""
Where a patched image may differ from what the real apt and dpkg leave: what running them leaves behind, each with
its reason. Nothing that a package ships or its database says may stand here.
"""

from __future__ import annotations

from collections.abc import Mapping

DIFFERENCES: tuple[tuple[str, str], ...] = (
    ("var/log/apt/*", "logs of the run"),
    ("var/log/dpkg.log", "a log of the run"),
    ("var/log/alternatives.log", "a log of the run"),
    ("var/lib/apt/lists/*", "apt's indexes, which the real run fetches into the image"),
    ("var/lib/apt/extended_states", "apt rewrites it with the same marks"),
    ("var/cache/apt/*", "apt's caches and downloads"),
    ("var/cache/debconf/*-old", "debconf's backups"),
    ("var/cache/debconf/templates.dat", "debconf's copy of the packages' templates, made anew whenever a script asks"),
    ("var/cache/ldconfig/aux-cache", "a cache of ldconfig for itself"),
    ("var/lib/dpkg/*-old", "dpkg's backups of its database"),
    ("var/lib/dpkg/lock", "locks"),
    ("var/lib/dpkg/triggers/Lock", "a lock"),
    ("var/lib/dpkg/triggers/Unincorp", "an empty file that trigger processing leaves"),
    ("var/lib/dpkg/available", "an empty file that dpkg creates"),
    ("var/lib/dpkg/updates/*", "dpkg's journal"),
    ("*/__pycache__/*.pyc", "byte code, which the real run compiles anew; ours removes what is stale, Python makes it"),
    ("*/__pycache__", "the folder of byte code alone"),
    ("var/cache/man/*", "man-db's index for apropos, which its own timer renews"),
    ("var/cache/debconf/config.dat", "answers to questions that nobody was asked"),
    ("run/*", "run-time state"),
    ("tmp/*", "temporary files"),
    ("dev/*", "the chroot's devices"),
    ("etc/resolv.conf", "written for the run"),
    ("etc/machine-id", "at random, where the image leaves it empty so that each start makes its own (machine-id(5))"),
)

OF_ONE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bullseye-postgresql": (
        ("var/lib/dpkg/triggers/File", "the order of its rows, which is apt's in unpacking and means nothing"),
        ("usr/lib/jvm/*/lib/server/classes.jsa", "Java's class data archive, which only lets it start faster"),
        ("etc/ssl/certs/java/cacerts", "Java's key store, in which every entry has the time of the run"),
        (
            "usr/share/man/*",
            "links of alternatives to pages that the image has left out, made anew by a script as it was",
        ),
    ),
}
"""What may differ between two trees of one image besides."""
