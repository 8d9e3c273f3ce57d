# SPDX-License-Identifier: Apache-2.0
"""The apk repositories of one image, taken together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from copacetic.apk.dependency import Dependency, DependencyError, parse_dependencies
from copacetic.apk.stanza import checksum_bytes, stanza_of
from copacetic.apk.tools import ApkTools
from copacetic.distro import Distro
from copacetic.errors import CopaError, IntegrityError, PackageError, RepositoryError, UnreachableError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository import Repository, RepositoryContext, unless_tolerated
from copacetic.repository.address import open_client
from copacetic.repository.apk.index import ApkIndex, ApkIndexStore, make_candidate
from copacetic.repository.apk.offers import Offer
from copacetic.repository.apk.package import is_adb, open_package
from copacetic.repository.apk.resolver import ApkResolver, ResolvedChange
from copacetic.repository.apk.signature import ApkKeyring
from copacetic.repository.apk.sources import (
    ApkSource,
    branch_of,
    builtin_variables,
    parse_sources,
    read_sources,
    with_mirrors,
)
from copacetic.repository.apk.vendor import Vendors, vendor_of
from copacetic.repository.host import open_host
from copacetic.repository.odd import OddRows
from copacetic.repository.packages import Arrived, PackageStore
from copacetic.repository.seen import SeenDates
from copacetic.repository.vouch import vouch_by_identity
from copacetic.updates import Candidate, InstalledPackage, Origin, PackageKey, PlannedUpdate, Resolution, Wanted

WORLD = "etc/apk/world"
WORLD_LIMIT = 1024 * 1024
_THIRD = "apk-v3"
"""The experiment: indexes and packages of apk-tools 3's own format."""
_PERMIT = f"--experimental-{_THIRD} uses it all the same"


class ApkRepository:
    """`Repository` for Alpine, Wolfi and Chainguard."""

    def __init__(self, context: RepositoryContext, sources: Sequence[ApkSource]) -> None:
        self._context = context
        self._world = _world(context.fs, context.installed)
        self._sources = _needed(sources, self._world)
        host = open_host(context.settings.host_root, context.distro)
        self._keyring = ApkKeyring(context.fs, extra=context.settings.keyrings, host=host and host[0])
        seen = SeenDates(context.cache, now=context.now, allow=context.settings.allow_rollback)
        self._store = ApkIndexStore(context.cache, context.http, context.progress, seen)
        self._packages = PackageStore(
            context.cache,
            context.http,
            context.progress,
            context.budget.transfers,
            check=_IdentityCheck(third=_THIRD in context.settings.experimental),
        )
        self._indexes: list[ApkIndex] | None = None
        self._failures: dict[str, CopaError] = {}

    @classmethod
    def open(cls, context: RepositoryContext) -> ApkRepository:
        sources = with_mirrors(_find_sources(context), context.settings.mirrors)
        named = (source.url for source in sources if source.named)
        settings, logins = context.settings, (source.login for source in sources)
        http = open_client(context.http, settings.reach, named, logins, settings.secrets)
        return cls(replace(context, http=http), sources)

    def resolve(
        self, wanted: Sequence[Wanted], *, exhaustive: bool, frozen: Mapping[PackageKey, str] | None = None
    ) -> Resolution:
        context = self._context
        indexes = self._load()
        tools = ApkTools.of(context.installed)
        odd = OddRows()
        resolver = ApkResolver(
            context.installed,
            context.assumed,
            indexes,
            self._world,
            tools=tools,
            frozen=frozen or {},
            vendors=Vendors(
                tuple(vendor_of(index.origin, context.distro) for index in indexes),
                context.settings.allow_vendor_change,
            ),
            odd=odd,
        )
        resolved = resolver.resolve(wanted, exhaustive=exhaustive)
        findings = {want.package.name: want.findings for want in wanted}
        installed = {package.name: package for package in context.installed}
        updates = [
            PlannedUpdate(
                installed=installed.get(change.new.name),
                candidate=_candidate(change.new, indexes),
                findings=findings.get(change.new.name, ()),
                required_by=() if change.new.name in findings else _required_by(change, resolved.changes),
            )
            for change in resolved.changes
        ]
        found = Resolution(
            updates=tuple(updates),
            skipped=resolved.skipped,
            origins=tuple(index.origin for index in indexes),
            notes=(*self._notes(), *self._keyring.notes(), *self._left_out(), *resolved.notes),
        )
        odd = OddRows.of([odd, *(index.odd for index in indexes)])
        return odd.account(found, wanted, scheme=tools.version_scheme, frozen=frozen or ())

    def vouch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Candidate]:
        origins = dict.fromkeys(candidate.origin for candidate in candidates)
        return vouch_by_identity(candidates, (lambda: self._recall(origins), self._load), _offers)

    def _recall(self, origins: Iterable[Origin]) -> Iterator[ApkIndex]:
        """Yield the kept indexes that a plan was made from, as far as this image's own definitions lead to them."""
        context = self._context
        for origin in origins:
            for source in self._sources:
                if (source.url, source.tag) == (origin.uri, origin.tag):
                    allowed = context.settings.allow_unsigned
                    index = self._store.recall(
                        origin.sha256, source, context.architecture, self._keyring, allow_unsigned=allowed
                    )
                    if index is not None:
                        yield index

    def state(self) -> str:
        """Return a digest of all indexes."""
        digest = hashlib.sha256()
        for index in self._load():
            digest.update(f"{index.source.url} {index.digest}\n".encode())
        return digest.hexdigest()

    def fetch(self, candidates: Sequence[Candidate], arrived: Arrived | None = None) -> Mapping[Candidate, Path]:
        return self._packages.fetch(candidates)

    def remarks(self) -> tuple[str, ...]:
        return ()

    def _load(self) -> list[ApkIndex]:
        """
        Fetch the indexes side by side. One that can't be had is an error, and nothing is done without it, unless the
        user goes on without what can't be used.
        """
        if self._indexes is None:
            context = self._context

            def one(source: ApkSource) -> ApkIndex | None:
                try:
                    return self._store.open(
                        source, context.architecture, self._keyring, allow_unsigned=context.settings.allow_unsigned
                    )
                except (RepositoryError, UnreachableError, IntegrityError) as error:
                    if not context.tolerant:
                        raise unless_tolerated(error) from error
                    self._failures[source.url] = error
                    return None

            found = context.budget.transfers.map(one, self._sources)
            indexes = [index for index in found if index is not None]
            if self._failures and not indexes:
                raise next(iter(self._failures.values()))  # nothing to go on with
            self._indexes = indexes
        return self._indexes

    def _left_out(self) -> list[str]:
        return [f"{url} is left out: {error}" for url, error in self._failures.items()]

    def _notes(self) -> list[str]:
        """An address may lead to another release than the image's, and then the image would change its release."""
        own = branch_of(self._context.distro)
        others = sorted({source.branch for source in self._sources if own and source.branch not in {"", own}})
        if not others:
            return []
        return [f"the image is of the branch {own}, its repositories are of {', '.join(others)}"]


class _IdentityCheck:
    """`PackageCheck` of apk: the index vouches for the control part, and that for the rest."""

    def __init__(self, *, third: bool) -> None:
        """`third` permits packages of apk's third format, wherever they come from."""
        self._third = third

    def key(self, candidate: Candidate) -> str:
        identity = checksum_bytes(stanza_of(candidate).identity)
        if identity is None:
            raise RepositoryError(f"nothing proves what {candidate.name} {candidate.version} has to be")
        # What was kept when the third format was permitted doesn't count when it isn't.
        return f"apk{'-v3' if self._third else ''}-{identity.hex()}"

    def check(self, candidate: Candidate, path: Path) -> None:
        what = f"{candidate.name} {candidate.version} from {candidate.origin.uri}"
        with path.open("rb") as stream:
            start = stream.read(4)
        if is_adb(start) and not self._third:
            raise PackageError(f"{what} is of apk's third format, support for which is experimental", hint=_PERMIT)
        try:
            package = open_package(path, what, identity=stanza_of(candidate).identity)
            package.verify()
        except PackageError as error:
            raise IntegrityError(str(error)) from error  # it may be broken or not: nothing proves what it is
        found = (package.info.find("pkgname"), package.info.find("pkgver"))
        if found != (candidate.name, candidate.version):
            raise PackageError(f"{what}: the file is {' '.join(found)}")


def _offers(index: ApkIndex, name: str) -> Iterator[Candidate]:
    return (make_candidate(index, row) for row in index.rows(name))


def _candidate(offer: Offer, indexes: Sequence[ApkIndex]) -> Candidate:
    """Take it from the first repository; one with a tag only counts where no other has it, as apk records it."""
    source = min(offer.sources, key=lambda number: (indexes[number].tag != "", number))
    return make_candidate(indexes[source], offer.fields)


def _required_by(change: ResolvedChange, changes: Iterable[ResolvedChange]) -> tuple[str, ...]:
    """Return the changed packages that ask for this one, or whose presence brings it in."""
    names = change.new.provides
    asking = {
        other.new.name
        for other in changes
        if other is not change and any(d.name in names and not d.conflict for d in other.new.depends)
    }
    if not asking:
        waited_for = {dependency.name for dependency in change.new.install_if}
        asking = {other.new.name for other in changes if waited_for.intersection(other.new.provides)}
    return tuple(sorted(asking))


def _world(fs: ImageFilesystem, installed: Sequence[InstalledPackage]) -> tuple[Dependency, ...]:
    """What is wanted; where nothing says so, not even an empty file, that is all that is there."""
    try:
        text = fs.read(WORLD, limit=WORLD_LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return tuple(Dependency(package.name) for package in installed)
    try:
        return parse_dependencies(text)
    except DependencyError as error:
        raise RepositoryError(f"{WORLD}: {error}", hint="repair the image's list of wanted packages") from error


def _needed(sources: Sequence[ApkSource], world: Sequence[Dependency]) -> tuple[ApkSource, ...]:
    """Leave out tagged repositories whose tag nobody asks for, and second definitions of one."""
    tags = {dependency.tag for dependency in world} | {""}
    unique = {(source.url, source.kind, source.tag): source for source in reversed(sources)}
    return tuple(source for source in reversed(unique.values()) if source.tag in tags)


def _find_sources(context: RepositoryContext) -> list[ApkSource]:
    settings = context.settings
    variables = builtin_variables(context.distro, context.architecture)
    sources: list[ApkSource] = []
    notes: list[str] = []
    if settings.definitions:
        for text in settings.definitions:
            found, skipped = parse_sources(text, "--repository", variables)
            sources += [replace(source, named=True) for source in found]
            notes += skipped
    else:
        sources, notes = read_sources(context.fs, variables)
        if not sources:
            sources = _host_sources(settings.host_root, context.distro, context.architecture)
    for note in notes:
        context.progress.note(note)
    third = next((source for source in sources if source.is_v3), None)
    if third is not None and _THIRD not in settings.experimental:
        what = f"{third.url} ({third.defined_in})"
        raise RepositoryError(f"{what} is of apk's third format, support for which is experimental", hint=_PERMIT)
    if not sources:
        what = f": {notes[0]}" if notes else ""
        branch = f" of {branch_of(context.distro)}" if branch_of(context.distro) else ""
        raise RepositoryError(
            f"{context.distro.pretty_name} names no repository that can be used{what}",
            hint=f"name the distribution's repository{branch} with --repository URL, and its key with --keyring",
        )
    return sources


def _host_sources(root: Path | None, distro: Distro, architecture: str) -> list[ApkSource]:
    """Return this machine's own sources, for the image's branch."""
    host = open_host(root, distro)
    if root is None or host is None:
        return []
    sources, _ = read_sources(host[0], builtin_variables(distro, architecture))
    branch = branch_of(distro)
    return [
        replace(
            source,
            url=_of_branch(source, branch),
            defined_in=f"this machine's {root / source.defined_in}",
            named=True,
        )
        for source in sources
        if not source.tag
    ]


def _of_branch(source: ApkSource, branch: str) -> str:
    """Return its address for another branch, which is the last part of the path that names one."""
    if not branch or not source.branch:
        return source.url
    before, found, after = f"{source.url}/".rpartition(f"/{source.branch}/")
    return f"{before}/{branch}/{after}".removesuffix("/") if found else source.url


_: type[Repository] = ApkRepository
