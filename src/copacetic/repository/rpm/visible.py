# SPDX-License-Identifier: Apache-2.0
"""
What of the repositories' packages may be seen: not what is excluded, locked, or of a module stream that isn't in use.

What is kept out of sight is remembered, so that a fix that waits there can be named.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import InvalidVersionError, RepositoryError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.rpm.config import RpmConfig
from copacetic.repository.rpm.index import FileLists, PrimaryIndex
from copacetic.repository.rpm.inifile import FILE_LIMIT
from copacetic.repository.rpm.modules import OF_MODULES, Modularity
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.sources import RpmSource
from copacetic.updates import Skipped, SkipReason
from copacetic.version import compare_versions

__all__ = ["VersionLock", "VisibleOffers", "name_hidden", "read_locks"]

_LISTS = ("etc/dnf/plugins/versionlock.list", "etc/yum/pluginconf.d/versionlock.list")
_TOML = "etc/dnf/versionlock.toml"
_ZYPP = "etc/zypp/locks"
_MAX_LOCKS = 2_000
_NEVR = re.compile(r"(.+?)-(?:(?:[0-9]+|\*):)?([^-:]+)-([^-]+)")
_YUM = re.compile(r"([0-9]+):(.+)")
_LISTED = re.compile(r"/etc/|/usr/lib/sendmail$|.*bin/")
"""What files primary metadata lists for all packages."""
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
        found = bool(self.pattern) and _matches(offer, self.pattern)
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
    if len(locks) > _MAX_LOCKS:
        raise RepositoryError(f"the image locks more than {_MAX_LOCKS} packages")
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


def _matches(offer: RpmOffer, pattern: str) -> bool:
    """As dnf's patterns: of a name alone, or with as much of version and architecture as they say."""
    name, architecture = offer.name, offer.architecture
    epoch, _, rest = offer.evr.rpartition(":")
    full = f"{epoch or 0}:{rest}"
    version = rest.rpartition("-")[0]
    forms = [name, f"{name}.{architecture}", f"{name}-{version}"]
    for evr in (rest, full):
        forms += [f"{name}-{evr}", f"{name}-{evr}.{architecture}"]
    return any(matches_glob(form, pattern) for form in forms)


class VisibleOffers:
    """`RpmOfferSource`: all repositories taken together."""

    def __init__(
        self,
        indexes: Sequence[PrimaryIndex],
        config: RpmConfig,
        modularity: Modularity,
        locks: Sequence[VersionLock],
        files: Callable[[PrimaryIndex], FileLists | None],
    ) -> None:
        self._indexes = tuple(indexes)
        self._config = config
        self._modularity = modularity
        self._locks = tuple(locks)
        self._files = files
        self._hidden: dict[int, str] = {}
        self._seen: dict[int, RpmOffer] = {}
        """Keeps offers alive, whose identities are the keys of `_hidden`."""
        for index in self._indexes:
            index.belonging_to(modularity.stream_of)

    def named(self, name: str) -> list[RpmOffer]:
        return [offer for index in self._indexes for offer in self._seeable(index, index.named(name))]

    def providing(self, name: str) -> list[RpmOffer]:
        found = self.named(name)
        for index in self._indexes:
            found += self._seeable(index, index.providing(name))
        if not found and name.startswith("/") and not _LISTED.match(name):
            found = [offer for index in self._indexes for offer in self._seeable(index, self._holding(index, name))]
        return found

    def obsoleting(self, name: str) -> list[RpmOffer]:
        return [offer for index in self._indexes for offer in self._seeable(index, index.obsoleting(name))]

    def withheld(self, name: str) -> list[tuple[RpmOffer, str]]:
        """Return the packages of a name that can't be seen, with the reasons."""
        found = []
        for index in self._indexes:
            for offer in index.named(name):
                reason = self._why_hidden(index, offer)
                if reason:
                    found.append((offer, reason))
        return found

    def _holding(self, index: PrimaryIndex, path: str) -> Iterator[RpmOffer]:
        """Look into the lists of all files, which are large, and which few ever need."""
        lists = self._files(index)
        for digest in lists.holders(path) if lists is not None else ():
            for offer in index.with_checksum(digest):
                index.note_file(offer, path)
                yield offer

    def _seeable(self, index: PrimaryIndex, offers: Iterable[RpmOffer]) -> Iterator[RpmOffer]:
        return (offer for offer in offers if not self._why_hidden(index, offer))

    def _why_hidden(self, index: PrimaryIndex, offer: RpmOffer) -> str:
        key = id(offer)
        if key not in self._hidden:
            self._seen[key] = offer
            self._hidden[key] = self._judge(index.source, offer)
        return self._hidden[key]

    def _judge(self, source: RpmSource, offer: RpmOffer) -> str:
        for patterns, where in ((source.excludes, source.defined_in), (self._config.excludes, self._config.path)):
            pattern = next((one for one in patterns if _matches(offer, one)), None)
            if pattern is not None:
                return f"{where} excludes {pattern[:80]}"
        for patterns, where in ((source.includes, source.defined_in), (self._config.includes, self._config.path)):
            if patterns and not any(_matches(offer, one) for one in patterns):
                return f"{where} includes others only"
        locks = [lock for lock in self._locks if matches_glob(offer.name, lock.name)]
        wanted = [lock for lock in locks if not lock.excludes]
        broken = [lock for lock in locks if lock.excludes and not lock.allows(offer)]
        if wanted and not any(lock.allows(offer) for lock in wanted):
            broken.append(wanted[0])
        if broken:
            return f"{broken[0].where} locks {offer.name}"
        epoch, _, rest = offer.evr.rpartition(":")
        nevra = f"{offer.name}-{epoch or 0}:{rest}.{offer.architecture}"
        return self._modularity.hides(offer.name, nevra, hotfix=source.module_hotfixes)


def name_hidden(skipped: Sequence[Skipped], visible: VisibleOffers) -> tuple[Skipped, ...]:
    """Say of what has no candidate that there is one which may not be seen, and why."""
    return tuple(_named(one, visible) if one.reason is SkipReason.NO_CANDIDATE else one for one in skipped)


def _named(skipped: Skipped, visible: VisibleOffers) -> Skipped:
    package = skipped.package
    for offer, reason in visible.withheld(package.name):
        try:
            newer = compare_versions("rpm", offer.evr, package.version) > 0
        except InvalidVersionError:
            continue
        if newer and offer.architecture in {package.architecture, "noarch"}:
            why = SkipReason.NO_CANDIDATE if reason.startswith(OF_MODULES) else SkipReason.HELD
            return replace(skipped, reason=why, detail=f"{skipped.detail}; {offer.evr} can't be taken: {reason}")
    return skipped
