# SPDX-License-Identifier: Apache-2.0
"""
What packages say of their files, for whoever has to prove that a layer is made of them and of nothing else.

It is taken from the packages themselves, and not from what was done with them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from copacetic.oci.change import NamedEffect
from copacetic.oci.filesystem import FileType
from copacetic.updates import PackageKey

__all__ = ["Explanation", "ShippedPackage", "ShippedPath"]


class ShippedPath(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    One path of a package, and what the package manager makes of it where nothing is. There are thousands, so this is
    cheap to make. Names of an owner count before its numbers, where the image knows them.
    """

    path: str
    """As the package spells it, without a leading slash."""
    type: FileType
    mode: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    target: str = ""
    sha256: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = {}
    is_configuration: bool = False
    """What is in the image may stay, with its owner and mode, and the new version is put beside it."""


class ShippedPackage(Struct, frozen=True, kw_only=True):
    """One package of a plan."""

    key: PackageKey
    label: str
    paths: tuple[ShippedPath, ...]
    scripts: str = ""
    """The text of all its scripts."""
    suffixes: tuple[str, ...] = ()
    """Under which the new version of a configuration file may stand beside the present one."""


class Explanation(Struct, frozen=True, kw_only=True):
    """Everything that may account for what is in a layer."""

    packages: Mapping[str, tuple[ShippedPackage, ...]] | None = None
    """By type of package. None where a builder had them and we don't."""
    effects: Mapping[str, NamedEffect] | None = None
    """By canonical path. None where scripts were run: they may leave what rules allow, unnamed."""
