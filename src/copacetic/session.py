# SPDX-License-Identifier: Apache-2.0
"""
What many runs share: clients, logins by host, the solver, the cache.

Together with the command line this is the only place that turns a name into a source, a destination or a solver.
Nothing is printed and no environment is read; what the command line finds there comes in as `Settings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from copacetic.budget import Budget, Slots
from copacetic.cache import Cache, temporary_folder
from copacetic.connect.settings import BuilderSettings, EngineSettings
from copacetic.errors import BuilderUnreachableError, UnsupportedBuilderError
from copacetic.http import HttpClient, HttpSettings
from copacetic.oci.location import Location
from copacetic.oci.registrysettings import RegistrySettings
from copacetic.oci.transport import Destination, Source
from copacetic.progress import Progress
from copacetic.repository import RepositorySettings

if TYPE_CHECKING:
    from copacetic.connect.dockercontext import EngineKind
    from copacetic.connect.engine import EngineClient
    from copacetic.llb.solver import Solver
    from copacetic.oci.credentials import Credentials, Keychain
    from copacetic.oci.registryclient import RegistryClient
    from copacetic.worker.execution import Limits

__all__ = ["ImageAccess", "Session", "Settings", "open_session", "open_solver"]


class Settings(Struct, frozen=True, kw_only=True):
    """How runs reach the world; every default works without any configuration."""

    cache_dir: Path | None = None
    """None uses a temporary folder, which goes with the session."""
    http: HttpSettings = field(default_factory=HttpSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    auth_files: tuple[Path, ...] = ()
    """Files with logins, the first that knows a registry counts."""
    credentials: Mapping[str, Credentials] = {}
    """By registry (`host[:port]`), instead of those in files."""
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    """Where docker and podman are, for images that they keep."""
    builder: BuilderSettings | None = field(default_factory=BuilderSettings)
    """Where a builder is, or may be looked for; None looks for none."""
    worker: bool = True
    """Whether programs may run in a sandbox of this machine when there is no builder."""
    worker_limits: Limits | None = None
    """What a program there may take; None for the documented amounts."""
    tooling_image: str = ""
    """Whose package manager acts on images without one, when something is to be run; empty: one that fits."""
    jobs: int = 8
    """How many platforms are worked on, and how many layers, indexes, packages or blobs are on their way, at once."""


class ImageAccess(Struct, frozen=True, kw_only=True):
    """Where an image is, and its bytes."""

    location: Location
    source: Source


class _Clients:
    """What is made when it is first needed, by whichever run, and lasts as long as the session."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress) -> None:
        self._settings = settings
        self._cache = cache
        self._progress = progress
        self._logins: Keychain | None = None
        self._registries: RegistryClient | None = None
        self._solver: Solver | None = None
        self._engines: dict[EngineKind, EngineClient] = {}
        self._lock = Lock()
        self.http = HttpClient(settings.http)

    @property
    def logins(self) -> Keychain:
        from copacetic.oci.credentials import Keychain

        with self._lock:
            if self._logins is None:
                self._logins = Keychain(self._settings.auth_files, given=dict(self._settings.credentials))
            return self._logins

    @property
    def registries(self) -> RegistryClient:
        logins = self.logins
        with self._lock:
            if self._registries is None:
                self._registries = self.registries_with(logins)
            return self._registries

    def registries_with(self, logins: Keychain) -> RegistryClient:
        from copacetic.oci.registryclient import RegistryClient
        from copacetic.oci.registryconfig import RegistryConfig

        return RegistryClient(self.http, RegistryConfig(self._settings.registry), logins)

    def engine(self, kind: EngineKind) -> EngineClient:
        """The same for the same kind, so that an engine knows its own images again."""
        with self._lock:
            if kind not in self._engines:
                from copacetic.connect.dockercontext import find_place
                from copacetic.connect.engine import open_engine

                place = find_place(kind, self._settings.engine)
                name = f"{kind} at {place}"
                self._engines[kind] = open_engine(place, self._settings.engine.timeout, name=name)
            return self._engines[kind]

    def solver(self) -> Solver:
        with self._lock:
            if self._solver is None:
                self._solver = open_solver(self._settings, self._cache, self._progress)
            return self._solver

    def close(self) -> None:
        if self._solver is not None:
            self._solver.close()


class Session:
    """The means of runs, however many; used by several threads at once."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress) -> None:
        self.settings = settings
        self.cache = cache
        self.progress = progress
        self.now = datetime.now(UTC)
        self.budget = Budget(transfers=Slots("transfer", settings.jobs))
        self._clients = _Clients(settings, cache, progress)

    def child(self, name: str) -> Session:
        """Return the same session for one of several images, which progress then names."""
        child = copy(self)
        child.progress = self.progress.child(name)
        return child

    def close(self) -> None:
        self.budget.close()
        self._clients.close()

    @property
    def http(self) -> HttpClient:
        return self._clients.http

    # -- images ----------------------------------------------------------------------------------------------

    def access(self, location: Location) -> ImageAccess:
        """Nothing is asked yet."""
        return ImageAccess(location=location, source=location.open_source(self._clients))

    def destination(self, location: Location) -> Destination:
        """Nothing is written yet."""
        return location.open_destination(self._clients)

    def repository_settings(self, location: Location) -> RepositorySettings:
        """An image's repositories may be where its own registry is."""
        settings, reference = self.settings.repository, location.reference
        if reference is None:
            return settings
        return replace(settings, reach=replace(settings.reach, registry=reference.registry))

    # -- running something -----------------------------------------------------------------------------------

    @property
    def may_run(self) -> bool:
        """Whether an image's programs may be run anywhere."""
        return self.settings.builder is not None or self.settings.worker

    @property
    def has_named_builder(self) -> bool:
        """Whether a builder was named, which may reach repositories that this machine doesn't."""
        return self.settings.builder is not None and self.settings.builder.address is not None

    def open_solver(self) -> Solver:
        """Connect, or get ready, with the first call; later ones give the same. Raises `SolverError`s."""
        return self._clients.solver()

    def open_tooling(self, default: str) -> ImageAccess:
        """
        Return the image that brings a package manager where one has none: the user's, or else the one that is given.

        It never gets a login that was given for an image's own registry.
        """
        from copacetic.oci.credentials import Keychain
        from copacetic.oci.registry import RegistrySource

        location = Location.parse(self.settings.tooling_image or default)
        if location.reference is None:
            return self.access(location)
        registries = self._clients.registries_with(Keychain(self.settings.auth_files))
        return ImageAccess(location=location, source=RegistrySource(location.reference, registries))

    def find_login(self, registry: str) -> Credentials | None:
        """For what a builder fetches itself."""
        return self._clients.logins.find(registry, "")

    def pull_name(self, location: Location) -> str:
        """
        Return the registry and repository from which a builder may fetch an image itself; empty: it is sent.

        A builder may fetch what it reaches in the same way as we do. What this machine reaches in a way of its own, by
        a mirror or a flag about transport, it sends; what is on loopback, unless the builder is behind a socket here.
        """
        from copacetic.connect.address import UnixAddress

        reference, registry, builder = location.reference, self.settings.registry, self.settings.builder
        if reference is None or registry.plain_http or not registry.tls_verify or registry.cert_dir or registry.mirrors:
            return ""
        host = reference.registry.rpartition(":")[0] or reference.registry
        elsewhere = builder is None or not isinstance(builder.address, UnixAddress)
        return "" if elsewhere and (host in {"localhost", "[::1]"} or host.startswith("127.")) else reference.name


def open_solver(settings: Settings, cache: Cache, progress: Progress) -> Solver:
    """
    Return whatever can run programs: the builder that the settings name, one that is found, or the local worker.

    Raises `SolverError`s, saying what was tried. The caller closes it.
    """
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
def open_session(settings: Settings, progress: Progress) -> Iterator[Session]:
    """Leaving it ends what it has started, and removes a temporary cache."""
    with ExitStack() as stack:
        folder = settings.cache_dir
        if folder is None:
            folder = stack.enter_context(temporary_folder("copacetic-"))
        session = Session(settings, Cache(folder, temporary=settings.cache_dir is None), progress)
        stack.callback(session.close)
        yield session
