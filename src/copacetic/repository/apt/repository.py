# SPDX-License-Identifier: Apache-2.0
"""The apt repositories of one image, taken together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from copacetic.budget import give_up
from copacetic.distro import Distro
from copacetic.errors import CopaError, IntegrityError, RepositoryError, UnreachableError
from copacetic.repository import Repository, RepositoryContext, unless_tolerated
from copacetic.repository.address import open_client
from copacetic.repository.apt.authconf import read_logins
from copacetic.repository.apt.index import AptIndexStore, PackagesIndex
from copacetic.repository.apt.keys import AptKeyring
from copacetic.repository.apt.offers import Offered
from copacetic.repository.apt.preferences import Described, Preferences, checks_valid_until
from copacetic.repository.apt.release import Release, ReleasePolicy, fetch_release, recall_release
from copacetic.repository.apt.resolver import AptResolver, Offers
from copacetic.repository.apt.sources import AptSource, parse_sources, read_sources, substitute
from copacetic.repository.apt.tiers import OfferedIndex, Unread, is_own, order_tiers
from copacetic.repository.host import open_host
from copacetic.repository.odd import OddRows
from copacetic.repository.packages import Arrived, PackageStore
from copacetic.repository.seen import SeenDates
from copacetic.updates import Candidate, Origin, PackageKey, Resolution, SkipReason, Wanted

RELEASES_VERSION = 2
_WIDENING = frozenset({SkipReason.NO_CANDIDATE, SkipReason.DEPENDENCY, SkipReason.VENDOR})
_T = TypeVar("_T")


class AptRepository:
    """`Repository` for Debian and its derivatives."""

    def __init__(self, context: RepositoryContext, sources: Sequence[AptSource]) -> None:
        self._context = context
        self._sources = tuple(sources)
        host = open_host(context.settings.host_root, context.distro)
        self._keyring = AptKeyring(context.fs, extra=context.settings.keyrings, host=host and host[0])
        self._seen = SeenDates(context.cache, now=context.now, allow=context.settings.allow_rollback)
        self._preferences = Preferences.read(context.fs, context.architecture)
        self._releases = context.cache.bucket("releases", version=RELEASES_VERSION)
        self._store = AptIndexStore(context.cache, context.http, context.progress)
        self._packages = PackageStore(context.cache, context.http, context.progress, context.budget.transfers)
        self._read: dict[tuple[str, str], Release | None] = {}
        self._failures: dict[tuple[str, str], CopaError] = {}
        self._architectures = sorted({p.architecture for p in context.installed} | {context.architecture} - {"all"})

    @classmethod
    def open(cls, context: RepositoryContext) -> AptRepository:
        mirrors, reach = context.settings.mirrors, context.settings.reach
        sources = substitute(_find_sources(context), architecture=context.architecture, mirrors=mirrors)
        logins = (*(source.login for source in sources), *read_logins(context.fs))
        named = (source.uri for source in sources if source.named)
        http = open_client(context.http, reach, named, logins, context.settings.secrets)
        return cls(replace(context, http=http), sources)

    def resolve(
        self, wanted: Sequence[Wanted], *, exhaustive: bool, frozen: Mapping[PackageKey, str] | None = None
    ) -> Resolution:
        context = self._context
        tiers = [self._sources] if exhaustive else order_tiers(self._sources, context.distro)
        loaded: list[PackagesIndex] = []
        for number, tier in enumerate(tiers, start=1):
            loaded += self._load(tier)
            offered = Offered(
                loaded,
                self._preferences,
                context.distro,
                complete=number == len(tiers),
                allowed=context.settings.allow_vendor_change,
            )
            resolver = AptResolver(
                context.installed,
                context.architecture,
                Offers(upgrades=offered.upgrades, withheld=offered.withheld, additions=offered.additions),
                exhaustive=exhaustive,
                frozen=frozen or {},
            )
            updates, skipped = resolver.resolve(wanted)
            if number == len(tiers):
                break
            lacking = any(s.reason in _WIDENING for s in skipped)
            if not lacking and not self._outranked(loaded, [source for other in tiers[number:] for source in other]):
                break
        if self._failures and not loaded and context.tolerant:
            raise next(iter(self._failures.values()))  # nothing to go on with
        if self._failures and not context.tolerant and (exhaustive or any(s.reason in _WIDENING for s in skipped)):
            raise unless_tolerated(next(iter(self._failures.values())))
        found = Resolution(
            updates=updates,
            skipped=skipped,
            origins=tuple(dict.fromkeys(index.origin for index in loaded)),
            notes=(*self._keyring.notes(), *self._left_out(), *offered.notes(updates)),
        )
        odd = OddRows.of(index.odd for index in loaded)
        return odd.account(found, wanted, scheme="deb", frozen=frozen or ())

    def _outranked(self, loaded: Sequence[PackagesIndex], others: Sequence[AptSource]) -> bool:
        """Tell whether a pin makes it matter what the repositories have that weren't fetched; their Release says so."""
        if not self._preferences.pins:
            return False
        places: list[Described] = [*loaded, *(place for _, place in self._places(others))]
        return self._preferences.disturbs(places, self._context.architecture)

    def _left_out(self) -> Iterator[str]:
        for (uri, suite), error in self._failures.items():
            yield f"{uri} {suite} is left out: {error}"

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
            release = self._attempt(source, partial(self._release, source))
            digest.update(f"{source.uri} {source.suite}\n{release and release.stanza.text}\n".encode())
        return digest.hexdigest()

    def fetch(self, candidates: Sequence[Candidate], arrived: Arrived | None = None) -> Mapping[Candidate, Path]:
        return self._packages.fetch(candidates)

    def remarks(self) -> tuple[str, ...]:
        return ()

    def _load(self, sources: Sequence[AptSource]) -> list[PackagesIndex]:
        """
        Fetch the Release files side by side, then the indexes they vouch for.

        One that can't be used is left out where nothing may depend on it (`resolve` decides that), and one of which
        pins take nothing isn't fetched.
        """
        transfers = self._context.budget.transfers
        work = [
            (place.release.source, transfers.submit(self._store.open, place.release, place.component, architecture))
            for source, place in self._places(sources)
            if not self._preferences.is_never(place, self._context.architecture)
            for architecture in self._architectures_of(source)
        ]
        try:
            found = [self._attempt(source, future.result) for source, future in work]
        finally:
            give_up(future for _, future in work)
        return [index for index in found if index is not None]

    def _places(self, sources: Sequence[AptSource]) -> list[tuple[AptSource, OfferedIndex]]:
        """Return what there is to fetch of the sources, as their Release files describe it."""
        wanted = [
            source for source in sources if not self._preferences.is_never(Unread(source), self._context.architecture)
        ]
        first = {(source.uri, source.suite): source for source in reversed(wanted)}
        missing = {key: source for key, source in first.items() if key not in self._read}
        fetched = self._context.budget.transfers.map(
            lambda source: self._attempt(source, partial(self._release, source)), missing.values()
        )
        self._read.update(zip(missing, fetched, strict=True))
        return [
            (source, OfferedIndex(replace(release, source=source), component))
            for source in wanted
            if (release := self._read[source.uri, source.suite]) is not None
            for component in source.components or ("",)
        ]

    def _attempt(self, source: AptSource, work: Callable[[], _T]) -> _T | None:
        """Do something with a repository; None when it can't be used and that need not be the end."""
        try:
            return work()
        except (RepositoryError, UnreachableError, IntegrityError) as error:
            if not self._context.tolerant and is_own(source, self._sources, self._context.distro):
                raise unless_tolerated(error) from error
            self._failures[source.shown_uri, source.suite] = error
            return None

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
