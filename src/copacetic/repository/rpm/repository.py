# SPDX-License-Identifier: Apache-2.0
"""The rpm repositories of one image, taken together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from copacetic.distro import Distro
from copacetic.errors import CopaError, IntegrityError, RepositoryError, UnreachableError
from copacetic.repository import Repository, RepositoryContext, unless_tolerated
from copacetic.repository.address import open_client
from copacetic.repository.host import open_host
from copacetic.repository.odd import OddRows
from copacetic.repository.packages import Arrived, PackageStore
from copacetic.repository.rpm.advisories import describe_advisories
from copacetic.repository.rpm.candidate import make_candidate, source_version
from copacetic.repository.rpm.config import RpmConfig, read_config, release_variables
from copacetic.repository.rpm.index import FileLists, PrimaryIndex
from copacetic.repository.rpm.installed import module_labels, offer_of, provided_releases
from copacetic.repository.rpm.keys import RpmKeyring
from copacetic.repository.rpm.locks import read_locks
from copacetic.repository.rpm.metadata import OpenedRepository, RpmMetadataStore
from copacetic.repository.rpm.modules import Modularity, ModuleDocument, read_states
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.resolver import PresentRpm, RpmChange, RpmResolver
from copacetic.repository.rpm.sources import (
    RpmSource,
    mirror_addresses,
    parse_sources,
    read_credentials,
    read_sources,
    with_mirrors,
)
from copacetic.repository.rpm.trust import MetadataPolicy
from copacetic.repository.rpm.universe import RpmRules
from copacetic.repository.rpm.updateinfo import Advisory, severities_of
from copacetic.repository.rpm.vendor import RpmVendors
from copacetic.repository.rpm.verify import PackageVerifier
from copacetic.repository.rpm.visible import VisibleOffers, name_hidden
from copacetic.repository.seen import SeenDates
from copacetic.repository.vouch import vouch_by_identity
from copacetic.rpm.fix import is_fixed
from copacetic.updates import (
    Candidate,
    Finding,
    Origin,
    PackageKey,
    PlannedUpdate,
    Resolution,
    Skipped,
    SkipReason,
    Wanted,
)

_MAX_ROUNDS = 20
_FAULTS = (RepositoryError, UnreachableError, IntegrityError)


class _Loaded(Struct, frozen=True):
    """A repository with what it offers."""

    opened: OpenedRepository
    index: PrimaryIndex
    modules: tuple[ModuleDocument, ...]


class RpmRepository:
    """`Repository` for everything that dnf, yum, tdnf and zypper update."""

    def __init__(
        self,
        context: RepositoryContext,
        config: RpmConfig,
        sources: Sequence[RpmSource],
        variables: Mapping[str, str],
    ) -> None:
        settings = context.settings
        self._context = context
        self._config = config
        self._sources = tuple(sources)
        host = open_host(settings.host_root, context.distro)
        self._keyring = RpmKeyring(
            context.fs, context.installed, extra=settings.keyrings, host=host[0] if host is not None else None
        )
        seen = SeenDates(context.cache, now=context.now, allow=settings.allow_rollback)
        self._store = RpmMetadataStore(context.cache, context.http, context.progress, seen)
        self._verifier = PackageVerifier(now=context.now, modern=settings.require_modern)
        self._packages = PackageStore(
            context.cache, context.http, context.progress, context.budget.transfers, check=self._verifier
        )
        self._policy = MetadataPolicy(
            now=context.now,
            variables=variables,
            mirrors=settings.mirrors,
            allow_expired=settings.allow_expired,
            allow_unsigned=settings.allow_unsigned,
            modern=settings.require_modern,
        )
        self._loaded: list[_Loaded] | None = None
        self._installed: list[PresentRpm] | None = None
        self._offers: VisibleOffers | None = None
        self._failures: dict[str, CopaError] = {}

    @classmethod
    def open(cls, context: RepositoryContext) -> RpmRepository:
        settings = context.settings
        config = read_config(context.fs)
        provided = provided_releases(context.installed)
        variables = release_variables(context.fs, context.distro, context.architecture, provided)
        sources = with_mirrors(_find_sources(context, config, variables), settings.mirrors)
        named = [url for source in sources if source.named for url in (*source.urls, source.mirrorlist) if url]
        mirrors, mirror_logins = mirror_addresses(settings.mirrors)
        logins = [*mirror_logins, *(login for source in sources for login in source.logins)]
        logins += read_credentials(context.fs, sources)
        http = open_client(context.http, settings.reach, (*named, *mirrors), logins, settings.secrets)
        return cls(replace(context, http=http), config, sources, variables)

    def resolve(
        self, wanted: Sequence[Wanted], *, exhaustive: bool, frozen: Mapping[PackageKey, str] | None = None
    ) -> Resolution:
        context, loaded = self._context, self._load()
        visible, present = self._visible(loaded), self._present()
        vendors = RpmVendors(context.distro, context.settings.allow_vendor_change)
        rules = RpmRules(
            architecture=context.architecture, install_only=self._config.install_only, withheld=vendors.withheld
        )
        blocked: dict[PackageKey, str] = {}
        for _ in range(_MAX_ROUNDS):
            known = {**blocked, **(frozen or {})}
            resolver = RpmResolver(present, visible, rules, is_fixed=_is_fixed, frozen=known)
            resolved = resolver.resolve(wanted, exhaustive=exhaustive)
            several = {
                _key_of(change.new): _describe_several(change) for change in resolved.changes if change.obsoleted
            }
            if not several:
                break
            blocked |= several
        by_id = {one.opened.source.id: one.opened for one in loaded}
        advisories = self._advisories(loaded, wanted, resolved.changes)
        updates = tuple(
            PlannedUpdate(
                installed=change.old,
                candidate=self._candidate(change.new, by_id[change.new.repository]),
                findings=change.findings,
                required_by=change.required_by,
            )
            for change in resolved.changes
        )
        found = Resolution(
            updates=updates,
            skipped=(*name_hidden(resolved.skipped, visible), *_unsupported(wanted, blocked, frozen or {})),
            origins=tuple(one.opened.origin for one in loaded),
            notes=(*self._notes(), *resolved.notes, *describe_advisories(advisories, resolved.changes)),
            severities=severities_of(advisories),
        )
        odd = OddRows.of(one.index.odd for one in loaded)
        return odd.account(found, wanted, scheme="rpm", frozen=frozen or ())

    def _candidate(self, offer: RpmOffer, opened: OpenedRepository) -> Candidate:
        return make_candidate(offer, opened, allow_unsigned=self._policy.allow_unsigned)

    def _advisories(
        self, loaded: Sequence[_Loaded], wanted: Sequence[Wanted], changes: Sequence[RpmChange]
    ) -> list[Advisory]:
        """Read what is told of updates, where anybody wants to know; it decides nothing, so nothing fails for it."""
        unrated = any(finding.severity == "UNKNOWN" for want in wanted for finding in want.findings)
        found: list[Advisory] = []
        for one in loaded if changes or unrated else ():
            try:
                found += self._store.advisories(one.opened)
            except _FAULTS as error:
                self._failures[f"what {one.opened.source.shown} tells of its updates"] = error
        return found

    def vouch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Candidate]:
        origins = dict.fromkeys(candidate.origin for candidate in candidates)
        return vouch_by_identity(candidates, (lambda: self._recall(origins), self._load), self._offers_named)

    def _offers_named(self, loaded: _Loaded, name: str) -> Iterator[Candidate]:
        return (self._candidate(offer, loaded.opened) for offer in loaded.index.named(name))

    def _recall(self, origins: Iterable[Origin]) -> Iterator[_Loaded]:
        """Yield the kept metadata that a plan was made from, as far as this image's own definitions lead to it."""
        for origin in origins:
            for source in self._sources:
                if source.id != origin.suite:
                    continue
                opened = self._store.recall(source, origin.sha256, self._keyring.of(source), self._policy)
                if opened is None or opened.origin.uri != origin.uri:
                    continue
                try:
                    yield _Loaded(opened, self._store.primary(opened), ())
                except _FAULTS:
                    continue

    def state(self) -> str:
        digest = hashlib.sha256()
        for one in self._load():
            digest.update(f"{one.opened.origin.uri} {one.opened.source.id} {one.opened.origin.sha256}\n".encode())
        return digest.hexdigest()

    def fetch(self, candidates: Sequence[Candidate], arrived: Arrived | None = None) -> Mapping[Candidate, Path]:
        return self._packages.fetch(candidates, arrived)

    def remarks(self) -> tuple[str, ...]:
        return self._verifier.remarks()

    def _load(self) -> list[_Loaded]:
        """
        Fetch metadata side by side. One that can't be had is an error, and nothing is done without it, unless its
        definition or the user goes on without what can't be used.
        """
        if self._loaded is None:
            context = self._context
            keys = {source.id: self._keyring.of(source) for source in self._sources}

            def one(source: RpmSource) -> _Loaded | None:
                try:
                    opened = self._store.open(source, keys[source.id], self._policy)
                    return _Loaded(opened, self._store.primary(opened), self._store.modules(opened))
                except _FAULTS as error:
                    told = _for_subscribers(source, error, secrets=bool(context.settings.secrets))
                    if not (context.tolerant or (source.optional and told.may_work_elsewhere)):
                        raise unless_tolerated(told) from error
                    self._failures[source.shown] = told
                    return None

            found = context.budget.transfers.map(one, self._sources)
            self._loaded = [loaded for loaded in found if loaded is not None]
        return self._loaded

    def _present(self) -> list[PresentRpm]:
        if self._installed is None:
            self._installed = [PresentRpm(package, offer_of(package)) for package in self._context.installed]
        return self._installed

    def _visible(self, loaded: Sequence[_Loaded]) -> VisibleOffers:
        if self._offers is None:
            self._offers = self._make_visible(loaded)
        return self._offers

    def _make_visible(self, loaded: Sequence[_Loaded]) -> VisibleOffers:
        fs = self._context.fs
        modularity = Modularity(
            (document for one in loaded for document in one.modules),
            read_states(fs),
            module_labels(self._context.installed),
            self._config.platform,
        )
        by_index = {id(one.index): one.opened for one in loaded}
        lists: dict[int, FileLists | None] = {}

        def files(index: PrimaryIndex) -> FileLists | None:
            if id(index) not in lists:
                lists[id(index)] = self._store.files(by_index[id(index)])
            return lists[id(index)]

        return VisibleOffers([one.index for one in loaded], self._config, modularity, read_locks(fs), files)

    def _notes(self) -> Iterator[str]:
        yield from self._keyring.notes()
        for where, error in self._failures.items():
            yield f"{where} is left out: {error}"


def _is_fixed(offer: RpmOffer, finding: Finding) -> bool:
    return is_fixed(_Versions(offer.evr, source_version(offer)), finding)


def _key_of(offer: RpmOffer) -> PackageKey:
    return PackageKey(offer.name, offer.architecture)


def _describe_several(change: RpmChange) -> str:
    gone = ", ".join(package.name for package in change.obsoleted)
    return f"{change.new.evr} would also take the place of {gone}, which isn't done yet"


def _unsupported(
    wanted: Sequence[Wanted], blocked: Mapping[PackageKey, str], frozen: Mapping[PackageKey, str]
) -> list[Skipped]:
    """Name what stays since a plan has no room for what else would go."""
    keys = ((want, PackageKey(want.package.name, want.package.architecture)) for want in wanted)
    return [
        want.skip(SkipReason.UNSUPPORTED, blocked[key]) for want, key in keys if key in blocked and key not in frozen
    ]


class _Versions(Struct, frozen=True):
    """What the rule for fixes asks of a package."""

    version: str
    source_version: str


def _for_subscribers(source: RpmSource, error: CopaError, *, secrets: bool) -> CopaError:
    """Say what a repository for subscribers wants, where that may be the reason."""
    if not source.for_subscribers or secrets or not isinstance(error, RepositoryError | UnreachableError):
        return error
    hint = "it is for subscribers: --repository-secret ADDRESS=FILE gives their certificate, login or token"
    return error.reworded(str(error), hint=hint)


def _find_sources(context: RepositoryContext, config: RpmConfig, variables: Mapping[str, str]) -> list[RpmSource]:
    settings = context.settings
    sources: list[RpmSource] = []
    notes: list[str] = []
    if settings.definitions:
        for text in settings.definitions:
            found, skipped = parse_sources(text, "--repository", RpmConfig(), variables)
            sources += [replace(source, named=True, by_user=True) for source in found]
            notes += skipped
    else:
        sources, notes = read_sources(context.fs, config, variables)
        if not sources:
            sources = _host_sources(settings.host_root, context.distro, variables)
    for note in notes:
        context.progress.note(note)
    if not sources:
        what = f": {notes[0]}" if notes else ""
        raise RepositoryError(
            f"{context.distro.pretty_name} names no repository that can be used{what}",
            hint="name one with --repository URL (or the text of a .repo file), and its key with --keyring",
        )
    return sources


def _host_sources(root: Path | None, distro: Distro, variables: Mapping[str, str]) -> list[RpmSource]:
    """Return this machine's own sources, with the image's variables."""
    host = open_host(root, distro)
    if root is None or host is None:
        return []
    sources, _ = read_sources(host[0], read_config(host[0]), variables)
    return [replace(source, defined_in=f"this machine's {root / source.defined_in}", named=True) for source in sources]


_: type[Repository] = RpmRepository
