# SPDX-License-Identifier: Apache-2.0
"""
What an image says about its repositories as a whole: dnf.conf, yum.conf, tdnf.conf or zypp.conf, locks of versions,
and the variables that its release gives.

Proxies, time-outs and caches are this machine's business, whatever the image says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from copacetic.distro import Distro
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.rpm.inifile import FILE_LIMIT, parse_ini, read_variables, split_list, to_bool

__all__ = ["RpmConfig", "base_architecture", "read_config", "release_variables"]

_DNF = ("etc/dnf/dnf.conf", "etc/yum.conf", "etc/yum/yum.conf", "etc/tdnf/tdnf.conf")
_ZYPP = "etc/zypp/zypp.conf"
_INSTALL_ONLY = frozenset(
    (
        "kernel",
        *(
            f"kernel-{kind}"
            for kind in ("core", "modules", "modules-core", "modules-extra", "devel", "debug", "default")
        ),
    )
)
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~+-]{0,63}")
_MAJOR_ONLY = frozenset({"almalinux", "centos", "eurolinux", "ol", "rhel", "rocky", "scientific", "virtuozzo"})
_BASE = (
    (re.compile(r"i[3456]86|athlon|geode|pentium[34]"), "i386"),
    (re.compile(r"x86_64(?:_v[234])?|amd64|ia32e"), "x86_64"),
    (re.compile(r"armv[67]hn?l|armv[67]hnl|armv8hl"), "armhfp"),
    (re.compile(r"armv5.*|armv[67]l"), "arm"),
)


class RpmConfig(Struct, frozen=True, kw_only=True):
    """The main section."""

    path: str = ""
    checks_packages: bool = True
    checks_metadata: bool = False
    metadata_suffices: bool = True
    """Whether zypper takes signed metadata for all packages' signatures."""
    optional: bool = False
    """Whether a repository may be left out that can't be had."""
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    install_only: frozenset[str] = frozenset()
    """Names of packages of which several versions may be there."""
    platform: str = ""
    """As modules have it: `platform:el9`."""


def read_config(fs: ImageFilesystem) -> RpmConfig:
    """Read the file of the package manager that the image has. Raises `RepositoryError` for a broken one."""
    path, main = next(_files(fs), ("", {}))
    return RpmConfig(
        path=path,
        checks_packages=to_bool(main.get("gpgcheck"), True),
        checks_metadata=to_bool(main.get("repo_gpgcheck"), False),
        metadata_suffices=not to_bool(main.get("pkg_gpgcheck"), False),
        optional=to_bool(main.get("skip_if_unavailable"), False),
        excludes=(
            *split_list(main.get("exclude", "")),
            *split_list(main.get("excludepkgs", "")),
            *split_list(main.get("excludes", "")),
        ),
        includes=split_list(main.get("includepkgs", "")),
        install_only=_INSTALL_ONLY | frozenset(split_list(main.get("installonlypkgs", ""))),
        platform=main.get("module_platform_id", "") or _platform(fs),
    )


def _files(fs: ImageFilesystem) -> Iterator[tuple[str, Mapping[str, str]]]:
    for path in (*_DNF, _ZYPP):
        try:
            text = fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        yield path, parse_ini(text, path).get("main", {})


def _platform(fs: ImageFilesystem) -> str:
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            text = fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        match = re.search(r"^PLATFORM_ID=[\"']?(platform:[A-Za-z0-9._-]{1,64})[\"']?\s*$", text, re.MULTILINE)
        return match[1] if match else ""
    return ""


def base_architecture(architecture: str) -> str:
    """Return what `$basearch` is for an architecture of packages."""
    return next((base for pattern, base in _BASE if pattern.fullmatch(architecture)), architecture)


def release_variables(
    fs: ImageFilesystem, distro: Distro, architecture: str, provided: Mapping[str, str]
) -> dict[str, str]:
    """
    Return all variables for definitions. `provided` are the releases that installed packages give, by their names for
    that: `system-release(releasever)` goes before the version of what provides `system-release`.
    """
    release = next((provided[name] for name in _RELEASE_NAMES if _RELEASE.fullmatch(provided.get(name, ""))), "")
    release = release or _of_distro(distro)
    major, _, minor = release.partition(".")
    builtin = {
        "arch": architecture,
        "basearch": base_architecture(architecture),
        "releasever": release,
        "releasever_major": provided.get("system-release(releasever_major)") or major,
        "releasever_minor": provided.get("system-release(releasever_minor)") or minor,
    }
    return read_variables(fs, {name: value for name, value in builtin.items() if value})


_RELEASE_NAMES = (
    "system-release(releasever)",
    "system-release",
    "distribution-release(releasever)",
    "distribution-release",
    "redhat-release",
    "suse-release",
)


def _of_distro(distro: Distro) -> str:
    return distro.version_id.partition(".")[0] if distro.id in _MAJOR_ONLY else distro.version_id
