# SPDX-License-Identifier: Apache-2.0
"""The apt repositories of one image, taken together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from copacetic.distro import Distro
from copacetic.errors import RepositoryError
from copacetic.relation import Relation, provides
from copacetic.repository import Repository, RepositoryContext
from copacetic.repository.address import open_client
from copacetic.repository.apt.authconf import read_logins
from copacetic.repository.apt.index import IndexStore, PackagesIndex
from copacetic.repository.apt.keys import Keyring
from copacetic.repository.apt.preferences import DOWNGRADES, Preferences, Subject, checks_valid_until
from copacetic.repository.apt.release import Release, ReleasePolicy, fetch_release, recall_release
from copacetic.repository.apt.resolver import Offers, Resolver, sort_candidates
from copacetic.repository.apt.sources import AptSource, parse_sources, read_sources, substitute
from copacetic.repository.host import open_host
from copacetic.repository.packages import PackageStore
from copacetic.repository.seen import SeenDates
from copacetic.updates import Candidate, InstalledPackage, Origin, Resolution, SkipReason, Wanted
from copacetic.version import compare_versions

RELEASES_VERSION = 2
_JOBS = 8
_WIDENING = frozenset({SkipReason.NO_CANDIDATE, SkipReason.DEPENDENCY})


class AptRepository:
    """`Repository` for Debian and its derivatives."""

    def __init__(self, context: RepositoryContext, sources: Sequence[AptSource]) -> None:
        self._context = context
        self._sources = tuple(sources)
        host = open_host(context.settings.host_root, context.distro)
        self._keyring = Keyring(context.fs, extra=context.settings.keyrings, host=host and host[0])
        self._seen = SeenDates(context.cache, now=context.now, allow=context.settings.allow_rollback)
        self._preferences = Preferences.read(context.fs, context.architecture)
        self._releases = context.cache.bucket("releases", version=RELEASES_VERSION)
        self._store = IndexStore(context.cache, context.http, context.progress)
        self._packages = PackageStore(context.cache, context.http, context.progress)
        self._indexes: list[PackagesIndex] = []
        self._architectures = sorted({p.architecture for p in context.installed} | {context.architecture} - {"all"})

    @classmethod
    def open(cls, context: RepositoryContext) -> AptRepository:
        mirrors, reach = context.settings.mirrors, context.settings.reach
        sources = substitute(_find_sources(context), architecture=context.architecture, mirrors=mirrors)
        logins = (*(source.login for source in sources), *read_logins(context.fs))
        http = open_client(context.http, reach, (source.uri for source in sources if source.named), logins)
        return cls(replace(context, http=http), sources)

    def resolve(
        self, wanted: Sequence[Wanted], *, exhaustive: bool, frozen: Mapping[str, str] | None = None
    ) -> Resolution:
        tiers = [self._sources] if exhaustive else _tiers(self._sources)
        loaded: list[PackagesIndex] = []
        for number, tier in enumerate(tiers, start=1):
            loaded += self._load(tier)
            self._indexes = loaded
            resolver = Resolver(
                self._context.installed,
                self._context.architecture,
                Offers(upgrades=self._upgrades, additions=self._additions),
                exhaustive=exhaustive,
                frozen=frozen or {},
            )
            updates, skipped = resolver.resolve(wanted)
            if number == len(tiers) or not any(s.reason in _WIDENING for s in skipped):
                break
        origins = tuple(dict.fromkeys(index.origin for index in loaded))
        return Resolution(updates=updates, skipped=skipped, origins=origins, notes=self._keyring.notes())

    def vouch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Candidate]:
        missing = dict.fromkeys(candidates)
        found: dict[Candidate, Candidate] = {}

        def search(indexes: Iterable[PackagesIndex]) -> None:
            for index in indexes:
                for candidate in list(missing):
                    same = next((offered for offered in index.find(candidate.name) if offered.is_same(candidate)), None)
                    if same is not None:
                        found[candidate] = same
                        del missing[candidate]

        search(self._recall(dict.fromkeys(candidate.origin for candidate in candidates)))
        named = {(candidate.origin.uri, candidate.origin.suite) for candidate in missing}
        first = [source for source in self._sources if (source.shown_uri, source.suite) in named]
        for tier in (first, [source for source in self._sources if source not in first]):
            if missing and tier:
                search(self._load(tier))
        return found

    def _recall(self, origins: Iterable[Origin]) -> Iterator[PackagesIndex]:
        """Yield the kept indexes that a plan was made from, as far as this image's own definitions lead to them."""
        for origin in origins:
            for source in self._sources:
                if (source.shown_uri, source.suite) != (origin.uri, origin.suite):
                    continue
                if origin.component not in (source.components or ("",)):
                    continue
                release = recall_release(source, origin.sha256, self._releases, self._keyring, self._policy())
                if release is not None:
                    for architecture in self._architectures_of(source):
                        index = self._store.recall(release, origin.component, architecture)
                        if index is not None:
                            yield index

    def state(self) -> str:
        digest = hashlib.sha256()
        for source in {(s.uri, s.suite): s for s in self._sources}.values():
            digest.update(f"{source.uri} {source.suite}\n{self._release(source).stanza.text}\n".encode())
        return digest.hexdigest()

    def fetch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Path]:
        return self._packages.fetch(candidates)

    def _load(self, sources: Sequence[AptSource]) -> list[PackagesIndex]:
        """Fetch the Release files side by side, then the indexes they vouch for."""
        with ThreadPoolExecutor(_JOBS) as pool:
            unique = list(dict.fromkeys((s.uri, s.suite) for s in sources))
            first = {key: next(s for s in sources if (s.uri, s.suite) == key) for key in unique}
            fetched = dict(zip(unique, pool.map(self._release, first.values()), strict=True))
            work = [
                pool.submit(self._store.open, replace(fetched[s.uri, s.suite], source=s), component, architecture)
                for s in sources
                for component in s.components or ("",)
                for architecture in self._architectures_of(s)
            ]
            return [index for future in work if (index := future.result()) is not None]

    def _architectures_of(self, source: AptSource) -> list[str]:
        if source.flat:
            return [self._context.architecture]
        return [
            a
            for a in self._architectures
            if a not in {"all", *source.without_architectures}
            and (not source.architectures or a in source.architectures)
        ]

    def _release(self, source: AptSource) -> Release:
        return fetch_release(source, self._context.http, self._releases, self._keyring, self._policy(), self._seen)

    def _policy(self) -> ReleasePolicy:
        settings = self._context.settings
        return ReleasePolicy(
            now=self._context.now, allow_expired=settings.allow_expired, allow_unsigned=settings.allow_unsigned
        )

    def _offered(self, name: str, architecture: str) -> list[tuple[Candidate, list[PackagesIndex]]]:
        """Return every version that is offered, the oldest first, with the indexes that have it."""
        found: dict[str, tuple[Candidate, list[PackagesIndex]]] = {}
        for index in self._indexes:
            for candidate in index.find(name):
                if candidate.architecture in {architecture, "all"} or architecture == "all":
                    found.setdefault(candidate.version, (candidate, []))[1].append(index)
        return [found[candidate.version] for candidate in sort_candidates(c for c, _ in found.values())]

    def _priority(self, candidate: Candidate, architecture: str, places: Sequence[PackagesIndex | None]) -> int:
        return self._preferences.priority(
            Subject(
                name=candidate.name,
                source=candidate.source_name,
                version=candidate.version,
                architecture=architecture,
                places=places,
            )
        )

    def _upgrades(self, package: InstalledPackage) -> Sequence[Candidate]:
        """
        Return the newer versions of the best priority, as apt finds its candidate: the installed version stays when
        nothing newer has at least its own, or when an older one is pinned so high that apt would go back to it.
        """
        own = Subject(
            name=package.name,
            source=package.source_name,
            version=package.version,
            architecture=package.architecture,
            places=[None],
        )
        newer: list[tuple[int, Candidate]] = []
        stay = 0
        for candidate, places in self._offered(package.name, package.architecture):
            order = compare_versions("deb", candidate.version, package.version)
            if order == 0:
                own = replace(own, places=[None, *places])
                continue
            priority = self._priority(candidate, package.architecture, places)
            if order > 0:
                newer.append((priority, candidate))
            elif priority >= DOWNGRADES:
                stay = max(stay, priority)
        stay = max(stay, self._preferences.priority(own))
        best = max((priority for priority, _ in newer), default=0)
        return [c for priority, c in newer if priority == best] if best > 0 and best >= stay else ()

    def _additions(self, relation: Relation, architecture: str) -> Sequence[Candidate]:
        ordered = self._best(relation.name, architecture, relation.accepts)
        if ordered:
            return ordered
        names = {c.name for index in self._indexes for c in index.providers(relation.name)}
        offered = [c for name in sorted(names) for c in self._best(name, architecture, lambda _: True)]
        return [c for c in offered if c.architecture in {architecture, "all"} and provides(c, relation)]

    def _best(self, name: str, architecture: str, accepts: Callable[[str], bool]) -> list[Candidate]:
        """Return the versions of a package that isn't installed, of the best priority, the newest first."""
        rows = [
            (self._priority(candidate, architecture, places), candidate)
            for candidate, places in self._offered(name, architecture)
            if accepts(candidate.version)
        ]
        best = max((priority for priority, _ in rows), default=0)
        return [c for priority, c in rows if priority == best > 0][::-1]


def _tiers(sources: Sequence[AptSource]) -> list[list[AptSource]]:
    """Security suites first, then their -updates, then the rest: most fixes need no more than the first."""
    tiers: list[list[AptSource]] = [[], [], []]
    for source in sources:
        suite = source.suite
        security = suite.endswith(("-security", "/updates"))
        tiers[0 if security else 1 if suite.endswith("-updates") else 2].append(source)
    return [tier for tier in tiers if tier]


def _find_sources(context: RepositoryContext) -> list[AptSource]:
    settings = context.settings
    if settings.definitions:
        sources: list[AptSource] = []
        notes: list[str] = []
        for text in settings.definitions:
            found, skipped = parse_sources(text, "--repository", deb822=not text.lstrip().startswith("deb "))
            sources += [replace(source, named=True, by_user=True) for source in found]
            notes += skipped
    else:
        sources, notes = read_sources(context.fs)
        if not sources:
            sources += _host_sources(settings.host_root, context.distro)
        if not checks_valid_until(context.fs):
            sources = [replace(source, check_valid_until=False) for source in sources]
    for note in notes:
        context.progress.note(note)
    if not sources:
        what = f": {notes[0]}" if notes else ""
        message = f"{context.distro.pretty_name} names no repository that can be used{what}"
        hint = "name one with --repository 'deb URI SUITE COMPONENT…', and its key with --keyring"
        raise RepositoryError(message, hint=hint)
    return sources


def _host_sources(root: Path | None, distro: Distro) -> list[AptSource]:
    """Return this machine's own sources for the image's release, when both are of one distribution."""
    found = open_host(root, distro)
    if root is None or found is None or not distro.codename or not found[1].codename:
        return []
    host, own = found
    sources, _ = read_sources(host)
    matching = [
        s for s in sources if s.suite == own.codename or s.suite.startswith((f"{own.codename}-", f"{own.codename}/"))
    ]
    return [
        replace(
            source,
            suite=distro.codename + source.suite[len(own.codename) :],
            defined_in=f"this machine's {root / source.defined_in}",
            named=True,
        )
        for source in matching
    ]


_: type[Repository] = AptRepository
