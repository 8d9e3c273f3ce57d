# SPDX-License-Identifier: Apache-2.0
"""
The families of packages, one row each: all that the rest of the project knows of one by name.

A row names classes as text (`package.module:Name`, see `loader`), so that only those of the family that an image has
are imported; the rooms that they live in say what is asked of them.
"""

from __future__ import annotations

import msgspec

from copacetic.keep import KeepRule

__all__ = ["FAMILIES", "Family", "Located", "family_of", "find_scheme", "type_of_report"]

_MIB = 1024**2


class Located(msgspec.Struct, frozen=True):
    """A class for images that have something at one of these places; they may be links."""

    entry: str
    places: tuple[str, ...] = ()


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """
    What belongs together. A row without databases is there for its names: findings of reports are told from those of
    others, and no image is recognised.
    """

    package_type: str
    """As in a purl."""
    databases: tuple[Located, ...] = ()
    """`inventory.PackageDatabase`s, in the order in which an image is asked for them."""
    schemes: tuple[tuple[str, str], ...] = ()
    """
    `version.Version`s by their names, which no two families share. The type of package itself stands for the newest
    rules; where the order depends on the release of an image's package manager, `PackageDatabase.version_scheme` says
    which ones an image has.
    """
    repository: str = ""
    """A `repository.Repository`."""
    unpacker: str = ""
    """An `unpack.Unpacker`."""
    package_managers: tuple[Located, ...] = ()
    """`pkgmgr.PackageManager`s with their programs: the first that an image has, or the very first, is its own."""
    keep: tuple[KeepRule, ...] = ()
    """What of images' layers all these read; what they read of `etc` is kept for everybody."""
    report_names: tuple[str, ...] = ()
    """What scanners and os-release call distributions with such packages, in lower case."""


FAMILIES: tuple[Family, ...] = (
    Family(
        package_type="deb",
        databases=(Located("copacetic.inventory.dpkg:DpkgDatabase", ("var/lib/dpkg", "var/lib/chisel")),),
        schemes=(("deb", "copacetic.version.deb:DebVersion"),),
        repository="copacetic.repository.apt:AptRepository",
        unpacker="copacetic.unpack.deb:DebUnpacker",
        package_managers=(Located("copacetic.pkgmgr.apt:AptPackageManager"),),
        keep=(
            KeepRule("var/lib/dpkg/", 32 * _MIB),
            KeepRule("var/lib/dpkg/available", 0),
            KeepRule("var/lib/dpkg/available-old", 0),
            KeepRule("var/lib/dpkg/status-old", 0),
            KeepRule("var/lib/chisel/"),
            KeepRule("var/cache/debconf/"),
            KeepRule("usr/share/keyrings/"),
            # What maintainer scripts of whole groups of packages include.
            KeepRule("usr/lib/php/php-maintscript-helper"),
            KeepRule("usr/share/postgresql-common/maintscripts-functions"),
            KeepRule("usr/share/python3/"),
        ),
        report_names=("debian", "ubuntu"),
    ),
    Family(
        package_type="apk",
        databases=(Located("copacetic.inventory.apk:ApkDatabase", ("lib/apk", "usr/lib/apk")),),
        schemes=(("apk", "copacetic.version.apk:ApkVersion"), ("apk2", "copacetic.version.apk:Apk2Version")),
        repository="copacetic.repository.apk:ApkRepository",
        unpacker="copacetic.unpack.apk:ApkUnpacker",
        package_managers=(Located("copacetic.pkgmgr.apk:ApkPackageManager"),),
        keep=(KeepRule("lib/apk/", 64 * _MIB), KeepRule("usr/lib/apk/", 64 * _MIB)),
        report_names=("alpine", "chainguard", "wolfi"),
    ),
    Family(
        package_type="rpm",
        report_names=(
            "alma",
            "amazon",
            "azurelinux",
            "cbl-mariner",
            "centos",
            "fedora",
            "opensuse",
            "opensuse.leap",
            "opensuse-leap",
            "oracle",
            "photon",
            "redhat",
            "rocky",
            "suse linux enterprise server",
        ),
    ),
    Family(package_type="alpm", report_names=("arch",)),
)


def family_of(package_type: str) -> Family:
    """Return the row of a type of package that has one."""
    return {family.package_type: family for family in FAMILIES}[package_type]


def find_scheme(name: str) -> str | None:
    """Return the entry of a version scheme."""
    return next((entry for family in FAMILIES for known, entry in family.schemes if known == name), None)


def type_of_report(name: str) -> str:
    """Return the type of package that a distribution has by what a report calls it; empty for one that isn't known."""
    return next((family.package_type for family in FAMILIES if name in family.report_names), "")
