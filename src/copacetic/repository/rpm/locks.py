# SPDX-License-Identifier: Apache-2.0
"""Locks of versions: dnf's and yum's lists, dnf5's table, zypper's stanzas."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from copacetic.errors import InvalidVersionError, RepositoryError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.rpm.inifile import FILE_LIMIT
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.patterns import MAX_PATTERNS, forms_of, is_pattern
from copacetic.version import compare_versions

__all__ = ["VersionLock", "read_locks"]

_LISTS = ("etc/dnf/plugins/versionlock.list", "etc/yum/pluginconf.d/versionlock.list")
_TOML = "etc/dnf/versionlock.toml"
_ZYPP = "etc/zypp/locks"
_MAX_LOCKS = 2_000
_NEVR = re.compile(r"(.+?)-(?:(?:[0-9]+|\*):)?([^-:]+)-([^-]+)")
_YUM = re.compile(r"([0-9]+):(.+)")
_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


class VersionLock(Struct, frozen=True, kw_only=True):
    """What an administrator has said of a package's versions."""

    name: str
    """A pattern."""
    pattern: str = ""
    """Of the only version that may be there; empty for none, with `conditions` all that meet them."""
    excludes: bool = False
    """The pattern is of what may not be there."""
    conditions: tuple[tuple[str, str, str], ...] = ()
    """Keys (`evr`, `arch`, …), comparisons, values."""
    where: str

    def allows(self, offer: RpmOffer) -> bool:
        if self.conditions:
            return all(_meets(offer, *condition) for condition in self.conditions)
        found = bool(self.pattern) and any(matches_glob(form, self.pattern) for form in forms_of(offer))
        return found != self.excludes


def read_locks(fs: ImageFilesystem) -> list[VersionLock]:
    """Return the locks of an image. Raises `RepositoryError` for a file that can't be read."""
    locks: list[VersionLock] = []
    for path in (*_LISTS, _ZYPP, _TOML):
        try:
            text = fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        read = {_TOML: _toml_locks, _ZYPP: _zypp_locks}.get(path, _list_locks)
        locks += read(text, path)
    if len(locks) > _MAX_LOCKS or sum(is_pattern(lock.name) for lock in locks) > MAX_PATTERNS:
        raise RepositoryError(f"the image locks more than {_MAX_LOCKS} packages, or {MAX_PATTERNS} by patterns")
    return locks


def _list_locks(text: str, where: str) -> Iterator[VersionLock]:
    for raw in split_lines(text):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        yum = _YUM.fullmatch(pattern)
        match = _NEVR.fullmatch(yum[2] if yum else pattern)
        if match is not None:
            pattern = f"{match[1]}-{yum[1]}:{match[2]}-{match[3]}" if yum else pattern
            yield VersionLock(name=match[1], pattern=pattern, excludes=line.startswith("!"), where=where)


def _zypp_locks(text: str, where: str) -> Iterator[VersionLock]:
    for part in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in part.split("\n"))
        values = {key.strip(): value.strip() for key, _, value in pairs}
        name = values.get("solvable_name", "")
        if name and values.get("type", "package") == "package":
            yield VersionLock(name=name, where=where)


def _toml_locks(text: str, where: str) -> Iterator[VersionLock]:
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RepositoryError(f"{where} can't be read: {str(error)[:200]}") from error
    packages = document.get("packages", [])
    for row in packages if isinstance(packages, list) else []:
        conditions = row.get("conditions", []) if isinstance(row, dict) else []
        found = tuple(
            (str(one.get("key", "")), str(one.get("comparator", "")), str(one.get("value", "")))
            for one in conditions
            if isinstance(one, dict)
        )
        if isinstance(row, dict) and row.get("name") and found:
            yield VersionLock(name=str(row["name"]), conditions=found, where=where)


def _meets(offer: RpmOffer, key: str, comparison: str, value: str) -> bool:
    epoch, _, rest = offer.evr.rpartition(":")
    version, _, release = rest.rpartition("-")
    mine = {"evr": offer.evr, "epoch": epoch or "0", "version": version, "release": release, "arch": offer.architecture}
    judge = _COMPARISONS.get(comparison)
    if key not in mine or judge is None:
        return False
    if key in {"arch", "release", "epoch"}:
        return judge(0 if mine[key] == value else 1)
    try:
        return judge(compare_versions("rpm", mine[key], value))
    except InvalidVersionError:
        return False
