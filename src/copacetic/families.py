# SPDX-License-Identifier: Apache-2.0
"""
The families of packages, one row each: all that the rest of the project knows of one by name.

A row names classes as text (`package.module:Name`, see `loader`), so that only those of the family that an image has
are imported; the rooms that they live in say what is asked of them.
"""

from __future__ import annotations

import re

import msgspec

from copacetic.keep import KeepRule

__all__ = ["FAMILIES", "Family", "Located", "family_of", "find_family", "find_scheme", "type_of_report"]

_MIB = 1024**2
_WORD = re.compile(r"[a-z]+")
_LONGEST = 100


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
    """What scanners call such packages, and first words of what they and os-release call their distributions."""
    fixed_by_source: bool = False
    """Whether all scanners take its fixed versions from a tracker of source packages."""


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
        report_names=("deb", "debian", "dpkg", "ubuntu"),
        fixed_by_source=True,
    ),
    Family(
        package_type="apk",
        databases=(Located("copacetic.inventory.apk:ApkDatabase", ("lib/apk", "usr/lib/apk")),),
        schemes=(("apk", "copacetic.version.apk:ApkVersion"), ("apk2", "copacetic.version.apk:Apk2Version")),
        repository="copacetic.repository.apk:ApkRepository",
        unpacker="copacetic.unpack.apk:ApkUnpacker",
        package_managers=(Located("copacetic.pkgmgr.apk:ApkPackageManager"),),
        keep=(KeepRule("lib/apk/", 64 * _MIB), KeepRule("usr/lib/apk/", 64 * _MIB)),
        report_names=("alpine", "apk", "apkg", "chainguard", "wolfi"),
    ),
    Family(
        package_type="rpm",
        databases=(
            Located(
                "copacetic.inventory.rpm:RpmDatabase",
                ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpmmanifest"),
            ),
        ),
        schemes=(("rpm", "copacetic.version.rpm:RpmVersion"),),
        repository="copacetic.repository.rpm:RpmRepository",
        unpacker="copacetic.unpack.rpm:RpmUnpacker",
        package_managers=(Located("copacetic.pkgmgr.rpm:RpmPackageManager"),),
        keep=(
            KeepRule("var/lib/rpm/", 512 * _MIB),
            KeepRule("usr/lib/sysimage/rpm/", 512 * _MIB),
            KeepRule("usr/share/rpm/", 512 * _MIB),
            KeepRule("var/lib/rpmmanifest/"),
            # Which database counts, where there are several.
            KeepRule("usr/lib/rpm/macros"),
            KeepRule("usr/lib/rpm/macros.d/"),
            KeepRule("usr/lib/rpm/redhat/macros"),
            KeepRule("usr/lib/rpm/suse/macros"),
            # Definitions and keys that aren't in etc.
            KeepRule("usr/share/dnf5/"),
            KeepRule("usr/lib/rpm/gnupg/keys/"),
        ),
        report_names=(
            *("alma", "almalinux", "amazon", "amazonlinux", "amzn", "azurelinux", "cbl", "centos", "fedora", "mariner"),
            *("ol", "opensuse", "oracle", "oraclelinux", "photon", "red", "redhat", "rhel", "rocky", "rockylinux"),
            *("rpm", "sle", "slem", "sles", "suse"),
        ),
    ),
    Family(package_type="alpm", report_names=("alpm", "arch", "archlinux", "pacman")),
)


def find_family(package_type: str) -> Family | None:
    """Return the row of a type of package; None for application packages."""
    return next((family for family in FAMILIES if family.package_type == package_type), None)


def family_of(package_type: str) -> Family:
    """Return the row of a type of package that has one."""
    return {family.package_type: family for family in FAMILIES}[package_type]


def find_scheme(name: str) -> str | None:
    """Return the entry of a version scheme."""
    return next((entry for family in FAMILIES for known, entry in family.schemes if known == name), None)


def type_of_report(name: str) -> str:
    """
    Return the type of package that a distribution has by what a report or os-release calls it (`Debian GNU/Linux 12`,
    `UBUNTU_22_04`, `opensuse.leap`); empty for one that isn't known.
    """
    word = _WORD.match(name[:_LONGEST].lower())
    known = word[0] if word else ""
    return next((family.package_type for family in FAMILIES if known in family.report_names), "")
