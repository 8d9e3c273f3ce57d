# SPDX-License-Identifier: Apache-2.0
"""
The library's entry points: plan, patch and inspect one image.

Together with the command line this is the only place that turns a name into a source or a destination. Nothing is
printed and no environment is read; what the command line finds there comes in as `Settings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from copacetic.cache import Cache, temporary_folder
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import PlanFileError, UnsupportedBuilderError, UsageError
from copacetic.http import HttpClient, HttpSettings
from copacetic.oci import Digest, Platform, Reference
from copacetic.oci.location import Location
from copacetic.oci.registrysettings import RegistrySettings
from copacetic.oci.transport import Destination, Source
from copacetic.pipeline.environment import Environment, Execution, ImageAccess
from copacetic.pipeline.outcome import Outcome
from copacetic.pipeline.plan.document import PLAN_LIMIT, read_plans, write_plans
from copacetic.pipeline.run import patch_image, plan_image
from copacetic.progress import Progress, Silent
from copacetic.report import load_reports
from copacetic.repository import RepositorySettings
from copacetic.request import PatchRequest, Strategy
from copacetic.updates import Plan, Report

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition
    from copacetic.llb.solver import Solver
    from copacetic.oci.credentials import Credentials, Keychain
    from copacetic.oci.registryclient import RegistryClient
    from copacetic.pipeline.open.inspect import Inspection
    from copacetic.worker.execution import Limits

PATCHED_SUFFIX = "-patched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run reaches the world; every default works without any configuration."""

    cache_dir: Path | None = None
    """None uses a temporary folder, which goes with the call."""
    http: HttpSettings = field(default_factory=HttpSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    auth_files: tuple[Path, ...] = ()
    """Files with logins, the first that knows a registry counts."""
    credentials: Credentials | None = None
    """For every registry, instead of those in files."""
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    builder: BuilderSettings | None = field(default_factory=BuilderSettings)
    """Where a builder is, or may be looked for; None looks for none."""
    worker: bool = True
    """Whether programs may run in a sandbox of this machine when there is no builder."""
    worker_limits: Limits | None = None
    """What a program there may take; None for the documented amounts."""
    tooling_image: str = ""
    """Whose package manager acts on images without one, when something is to be run; empty: one that fits."""
    jobs: int = 4
    """How many platforms, layers or blobs are worked on at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSet:
    """The plans of an image's platforms."""

    plans: tuple[Plan, ...]
    graphs: Mapping[Digest, Definition] = field(default_factory=dict)
    """What would be solved, by `Plan.image_digest`: when it was asked for, and only of plans that run something."""

    def to_json(self) -> bytes:
        """Return the documented object (docs/reference/json.md), ending in a newline."""
        return write_plans(self.plans)


class _Means:
    """Clients that are made when they are needed, and shared within one call."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress) -> None:
        self._settings = settings
        self._client: RegistryClient | None = None
        self._keys: Keychain | None = None
        self._solver: Solver | None = None
        self._lock = Lock()
        self._progress = progress
        self.http = HttpClient(settings.http)
        self._cache = cache

    def environment(self, request: PatchRequest | None = None, location: Location | None = None) -> Environment:
        settings = self._settings
        execution = None
        if request is not None and location is not None and request.strategy is not Strategy.UNPACK:
            execution = self._execution(location)
        registry = location.reference.registry if location is not None and location.reference is not None else ""
        reach = replace(settings.repository.reach, registry=registry)
        return Environment(
            cache=self._cache,
            http=self.http,
            repository=replace(settings.repository, reach=reach),
            progress=self._progress,
            now=datetime.now(UTC),
            jobs=settings.jobs,
            execution=execution,
        )

    def close(self) -> None:
        if self._solver is not None:
            self._solver.close()

    def _execution(self, location: Location) -> Execution | None:
        settings = self._settings
        if settings.builder is None and not settings.worker:
            return None
        return Execution(
            open_solver=self._open_solver,
            open_tooling=self._open_tooling,
            credentials=self._find_credentials,
            pull_name=self._pull_name(location),
            delegate=settings.builder is not None and settings.builder.address is not None,
            proxies=settings.http.proxies,
        )

    def _open_solver(self) -> Solver:
        """BuildKit where an address says, or where it is found; else the worker. One solver for all platforms."""
        with self._lock:
            if self._solver is None:
                self._solver = open_solver(self._settings, self._cache, self._progress)
            return self._solver

    def _open_tooling(self, default: str) -> ImageAccess:
        """Never with credentials that were given for the image's own registry."""
        from copacetic.oci.registry import RegistrySource

        location = Location.parse(self._settings.tooling_image or default)
        if location.reference is None:
            return ImageAccess(source=self.source(location))
        source = RegistrySource(location.reference, self._client_with(self._keys_of_files()))
        return ImageAccess(source=source, pull_name=self._pull_name(location))

    def _find_credentials(self, registry: str) -> Credentials | None:
        return (self._keys or self._keys_of_files()).find(registry, "")

    def _pull_name(self, location: Location) -> str:
        """
        A builder may fetch what it reaches in the same way as we do. What this machine reaches in a way of its own, by
        a mirror or a flag about transport, it sends; what is on loopback, unless the builder is behind a socket here.
        """
        from copacetic.connect.address import UnixAddress

        reference, registry, builder = location.reference, self._settings.registry, self._settings.builder
        if reference is None or registry.plain_http or not registry.tls_verify or registry.cert_dir or registry.mirrors:
            return ""
        host = reference.registry.rpartition(":")[0] or reference.registry
        elsewhere = builder is None or not isinstance(builder.address, UnixAddress)
        return "" if elsewhere and (host in {"localhost", "[::1]"} or host.startswith("127.")) else reference.name

    def source(self, location: Location) -> Source:
        path, tag = location.path, location.tag
        if location.reference is not None:
            from copacetic.oci.registry import RegistrySource

            return RegistrySource(location.reference, self._registry(location.reference.registry))
        assert path is not None
        if location.kind == "oci":
            from copacetic.oci.layout import LayoutSource

            return LayoutSource(path, tag)
        if location.kind == "oci-archive":
            from copacetic.oci.archive import OciArchiveSource

            return OciArchiveSource(path, tag)
        from copacetic.oci.dockerarchive import DockerArchiveSource

        return DockerArchiveSource(path, tag)

    def destination(self, location: Location) -> Destination:
        path, tag = location.path, location.tag
        if location.reference is not None:
            from copacetic.oci.registry import RegistryDestination

            return RegistryDestination(location.reference, self._registry(location.reference.registry))
        assert path is not None
        if location.kind == "oci":
            from copacetic.oci.layout import LayoutDestination

            return LayoutDestination(path, tag)
        if location.kind == "oci-archive":
            from copacetic.oci.archive import OciArchiveDestination

            return OciArchiveDestination(path, tag)
        from copacetic.oci.dockerarchive import DockerArchiveDestination

        return DockerArchiveDestination(path, tag)

    def _registry(self, host: str) -> RegistryClient:
        from copacetic.oci.credentials import Keychain

        if self._client is None:
            given = {host: self._settings.credentials} if self._settings.credentials is not None else {}
            self._keys = Keychain(self._settings.auth_files, given=given)
            self._client = self._client_with(self._keys)
        return self._client

    def _client_with(self, keys: Keychain) -> RegistryClient:
        from copacetic.oci.registryclient import RegistryClient
        from copacetic.oci.registryconfig import RegistryConfig

        return RegistryClient(self.http, RegistryConfig(self._settings.registry), keys)

    def _keys_of_files(self) -> Keychain:
        from copacetic.oci.credentials import Keychain

        return Keychain(self._settings.auth_files)


def open_solver(settings: Settings, cache: Cache, progress: Progress) -> Solver:
    """
    Return whatever can run programs: the builder that the settings name, one that is found, or the local worker.

    Raises `SolverError`s, saying what was tried. The caller closes it.
    """
    from copacetic.errors import BuilderUnreachableError

    tried = []
    if settings.builder is not None:
        from copacetic.buildkit.detect import open_builder

        try:
            return open_builder(settings.builder)
        except (BuilderUnreachableError, UnsupportedBuilderError) as error:
            if settings.builder.address is not None or not settings.worker:
                raise
            tried.append(str(error))
    from copacetic.worker import WorkerSettings, WorkerSolver
    from copacetic.worker.execution import Limits

    limits = settings.worker_limits or Limits()
    keep = settings.cache_dir is not None
    worker = WorkerSolver(WorkerSettings(cache=cache, limits=limits, progress=progress, keep=keep))
    try:
        worker.capabilities()
    except UnsupportedBuilderError as error:
        worker.close()
        raise UnsupportedBuilderError("; ".join([*tried, str(error)]), hint=error.hint) from error
    return worker


@contextmanager
def _means(settings: Settings, progress: Progress) -> Iterator[_Means]:
    with ExitStack() as stack:
        folder = settings.cache_dir
        if folder is None:
            folder = stack.enter_context(temporary_folder("copacetic-"))
        means = _Means(settings, Cache(folder, temporary=settings.cache_dir is None), progress)
        stack.callback(means.close)
        yield means


def plan(
    request: PatchRequest,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    graphs: bool = False,
) -> PlanSet:
    """
    Tell what patching an image would change, and why; nothing is changed. `graphs` gives those that would be solved.

    Packages are fetched into the cache, for their scripts decide what is possible. Raises `CopaError`s only.
    """
    settings, progress = settings or Settings(), progress or Silent()
    location = Location.parse(request.image)
    with _means(settings, progress) as means:
        reports = _reports(request, progress)
        environment = means.environment(request, location)
        planned = plan_image(means.source(location), request, reports, environment, graphs=graphs)
        return PlanSet(plans=planned.plans, graphs=planned.graphs)


def patch(request: PatchRequest, *, settings: Settings | None = None, progress: Progress | None = None) -> Outcome:
    """
    Patch an image, prove the result, and publish it where the request says.

    When there is nothing to do, nothing is written and the outcome's `changed` is false. Raises `CopaError`s only;
    after one of them nothing was published.
    """
    settings, progress = settings or Settings(), progress or Silent()
    location = Location.parse(request.image)
    target = select_destination(request, location)
    with _means(settings, progress) as means:
        reports, plans = _reports(request, progress), _plans(request)
        source = means.source(location)
        if target.kind == "docker-archive":
            source = _one_image(source, request)
        return patch_image(
            source,
            lambda: means.destination(target),
            request,
            reports=reports,
            plans=plans,
            environment=means.environment(request, location),
        )


def inspect(
    image: str,
    *,
    platforms: Sequence[str] = (),
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Tell what is in an image: distribution, packages, and which layer each came with."""
    from copacetic.pipeline.open.inspect import inspect_image

    settings, progress = settings or Settings(), progress or Silent()
    location = Location.parse(image)
    chosen = [Platform.parse(text) for text in platforms]
    with _means(settings, progress) as means:
        return inspect_image(means.source(location), chosen, means.environment())


def _one_image(source: Source, request: PatchRequest) -> Source:
    """A docker archive can't hold an index."""
    from copacetic.oci.selection import PlatformSource

    if len(request.platforms) > 1:
        raise UsageError("a docker archive holds one image", hint="choose one --platform, or write an oci: layout")
    return PlatformSource(source, Platform.parse(request.platforms[0]) if request.platforms else None)


def select_destination(request: PatchRequest, location: Location) -> Location:
    """
    Tell where the result goes; the image's own tag is never overwritten unless `tag` says so.

    Raises `UsageError` when the request names no place.
    """
    if request.destination and request.push:
        raise UsageError("--push and --to exclude each other", hint="--to takes a registry's reference too")
    if request.destination:
        target = Location.parse(request.destination)
        if request.tag:
            raise UsageError("--tag and --to exclude each other", hint="write the tag into --to")
        return target
    if not request.push:
        raise UsageError("the patched image has nowhere to go", hint="add --push, or --to oci:DIR:TAG")
    reference = location.reference
    if "/" in request.tag or ":" in request.tag:
        return Location(kind="registry", reference=Reference.parse(request.tag))
    if reference is None:
        raise UsageError(f"--push needs a registry, and {location} is a file", hint="give --tag a full reference")
    return Location(kind="registry", reference=reference.with_tag(request.tag or _patched_tag(reference)))


def _patched_tag(reference: Reference) -> str:
    return f"{reference.tag}{PATCHED_SUFFIX}" if reference.tag else PATCHED_SUFFIX.lstrip("-")


def _reports(request: PatchRequest, progress: Progress) -> tuple[Report, ...]:
    reports = load_reports(request.reports, package_types=request.package_types)
    for report in reports:
        if report.ignored:
            what = ", ".join(f"{count} with {reason}" for reason, count in sorted(report.ignored.items()))
            progress.note(f"{report.path}: rows left out: {what}")
    return reports


def _plans(request: PatchRequest) -> tuple[Plan, ...]:
    path = request.plan_file
    if path is None:
        return ()
    if request.reports:
        raise UsageError("--plan and --report exclude each other", hint="the plan was made from a report already")
    try:
        with path.open("rb") as file:
            data = file.read(PLAN_LIMIT + 1)
    except OSError as error:
        raise PlanFileError(f"can't read the plan {path}: {error.strerror}") from error
    if len(data) > PLAN_LIMIT:
        raise PlanFileError(f"the plan {path} has more than {PLAN_LIMIT} bytes")
    return read_plans(data, where=str(path))
