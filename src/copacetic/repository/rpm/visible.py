# SPDX-License-Identifier: Apache-2.0
"""
What of the repositories' packages may be seen: not what is excluded, locked, or of a module stream that isn't in use.

What is kept out of sight is remembered, so that a fix that waits there can be named.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec.structs import replace

from copacetic.errors import InvalidVersionError
from copacetic.glob import matches_glob
from copacetic.repository.rpm.config import RpmConfig
from copacetic.repository.rpm.index import FileLists, PrimaryIndex
from copacetic.repository.rpm.locks import VersionLock
from copacetic.repository.rpm.modules import OF_MODULES, Modularity
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.patterns import RpmPatterns, forms_of, is_pattern
from copacetic.repository.rpm.sources import RpmSource
from copacetic.updates import Skipped, SkipReason
from copacetic.version import compare_versions

__all__ = ["VisibleOffers", "name_hidden"]

_LISTED = re.compile(r"/etc/|/usr/lib/sendmail$|.*bin/")
"""What files primary metadata lists for all packages."""


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
        self._modularity = modularity
        self._excludes = RpmPatterns(config.excludes, config.path)
        self._includes = RpmPatterns(config.includes, config.path)
        self._made: dict[tuple[tuple[str, ...], str], RpmPatterns] = {}
        self._locks: dict[str, list[VersionLock]] = defaultdict(list)
        self._globs = [lock for lock in locks if is_pattern(lock.name)]
        for lock in locks:
            if not is_pattern(lock.name):
                self._locks[lock.name].append(lock)
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

    def _patterns(self, words: tuple[str, ...], where: str) -> RpmPatterns:
        if (words, where) not in self._made:
            self._made[words, where] = RpmPatterns(words, where)
        return self._made[words, where]

    def _judge(self, source: RpmSource, offer: RpmOffer) -> str:
        forms = forms_of(offer)
        for patterns in (self._patterns(source.excludes, source.defined_in), self._excludes):
            pattern = patterns.find(forms)
            if pattern is not None:
                return f"{patterns.where} excludes {pattern[:80]}"
        for patterns in (self._patterns(source.includes, source.defined_in), self._includes):
            if patterns and patterns.find(forms) is None:
                return f"{patterns.where} includes others only"
        locks = [
            *self._locks.get(offer.name, ()),
            *(lock for lock in self._globs if matches_glob(offer.name, lock.name)),
        ]
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
