# SPDX-License-Identifier: Apache-2.0
"""
`WorkerSolver`: the `Solver` seam on this machine.

What was solved stays until the solver is closed: a graph that is solved and then exported runs its processes once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct, field

from copacetic._version import __version__
from copacetic.cache import Cache
from copacetic.errors import RAN_HINT, CopaError, SolverError, StorageError, UnsupportedBuilderError, VerificationError
from copacetic.llb.definition import Definition
from copacetic.llb.solver import Capabilities, Events, ExportedLayer, Inputs, Solver
from copacetic.oci import Digest, Platform
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.manifest import OCI_LAYER
from copacetic.oci.transport import Source
from copacetic.progress import Progress, Silent
from copacetic.worker.agent import JobRefusedError
from copacetic.worker.execution import Limits
from copacetic.worker.filesystem import WorkerFilesystem
from copacetic.worker.graphwalk import GraphSolve
from copacetic.worker.inside.channel import Message
from copacetic.worker.platforms import can_run, find_emulators, runnable_platforms
from copacetic.worker.workshop import Workshop

__all__ = ["WorkerResult", "WorkerSettings", "WorkerSolver"]


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """What a worker is told once."""

    cache: Cache
    limits: Limits = field(default_factory=Limits)
    open_image: Callable[[str], Source] | None = None
    """Opens `docker-image://` references that `Inputs.images` doesn't have."""
    modes: tuple[str, ...] = ()
    """Only these of `worker.modes`; for tests, and for whoever knows better."""
    keep: bool = True
    """Whether unpacked layers stay in the cache folder; a folder that is thrown away can't have them."""
    progress: Progress = field(default_factory=Silent)


class WorkerResult(Struct, frozen=True, kw_only=True):
    """A solved filesystem."""

    filesystem: ImageFilesystem


class WorkerSolver:
    """Solves graphs here. Thread-safe; nothing is started before it is needed."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._workshop: Workshop | None = None
        self._emulating: Workshop | None = None
        self._closed = False

    def capabilities(self) -> Capabilities:
        """Raises `UnsupportedBuilderError` when this machine allows no sandbox, with what is missing."""
        shop, emulating = self._open(), self._open_emulating()
        mode, facts = shop.agent.mode, shop.agent.facts
        labels = {"mode": mode.name, "sandbox": mode.meaning}
        labels["filesystems"] = "overlayfs" if facts["overlay"] else f"copies ({facts.get('reason') or 'no mounts'})"
        for refused in shop.refused:
            labels[f"without {refused.mode}"] = str(refused)
        emulated = [] if emulating is None else emulating.agent.facts["emulates"]
        if emulated:
            labels["emulated"] = ", ".join(emulated)
        platforms = runnable_platforms(emulated)
        return Capabilities(name=f"worker ({mode.title})", version=__version__, platforms=platforms, labels=labels)

    @contextlib.contextmanager
    def solve(self, definition: Definition, inputs: Inputs, events: Events) -> Iterator[WorkerResult]:
        """Solve a graph, to read files of the result. Raises `SolverError`."""
        with self._solved(definition, inputs, events) as (shop, layers):
            request = {"layers": layers or (str(shop.empty),), "single": shop.agent.mode.single}
            with shop.agent.job("read", request) as job:
                yield WorkerResult(filesystem=WorkerFilesystem(job))

    def export(
        self, definition: Definition, inputs: Inputs, events: Events, *, folder: Path
    ) -> tuple[ExportedLayer, ...]:
        """Solve a graph and write its layers into a private empty folder; empty ones are none. Raises `SolverError`."""
        exported = []
        with self._solved(definition, inputs, events) as (shop, layers):
            for position, layer in enumerate(layers):
                path = folder / f"{position}.tar"
                packed = _pack(shop, layer, path, self._settings.limits.disk)
                if not packed["entries"]:
                    path.unlink()
                    continue
                digest = Digest("sha256", packed["digest"])
                exported.append(ExportedLayer(path=path, media_type=OCI_LAYER, digest=digest, size=packed["size"]))
        return tuple(exported)

    def close(self) -> None:
        """End what still runs, and remove everything but unpacked layers."""
        with self._lock:
            self._closed = True
            shops = [shop for shop in (self._workshop, self._emulating) if shop is not None]
            self._workshop = self._emulating = None
        for shop in shops:
            shop.close(keep=self._settings.keep)

    def _open(self) -> Workshop:
        with self._lock:
            if self._closed:
                raise SolverError("the worker was closed")
            if self._workshop is None:
                with _only_solver_errors():
                    self._workshop = Workshop.open(self._settings.cache.root, self._settings.modes)
            return self._workshop

    def _open_emulating(self) -> Workshop | None:
        """
        Return the place where programs of other platforms can be run, if there is one.

        Emulators are registered in a user namespace only. Root's own sandbox has none, so it gets a second one.
        """
        shop = self._open()
        if shop.agent.mode.name != "root" or not find_emulators():
            return shop
        with self._lock:
            if self._emulating is None and not self._closed and not self._settings.modes:
                with contextlib.suppress(UnsupportedBuilderError):
                    self._emulating = Workshop.open(self._settings.cache.root, ("all",))
            return self._emulating

    def _place_for(self, platform: Platform) -> Workshop:
        shop = self._open()
        if can_run(platform, shop.agent.facts["emulates"]):
            return shop
        return self._open_emulating() or shop

    @contextlib.contextmanager
    def _solved(
        self, definition: Definition, inputs: Inputs, events: Events
    ) -> Iterator[tuple[Workshop, tuple[str, ...]]]:
        shop = self._place_for(definition.platform)
        with shop.results.used():
            with _only_solver_errors():
                solve = GraphSolve(
                    definition=definition,
                    inputs=inputs,
                    events=events,
                    shop=shop,
                    limits=self._settings.limits,
                    open_image=self._settings.open_image,
                    progress=self._settings.progress,
                )
                layers = solve.run()
            yield shop, layers
        shop.drop_old_results()


def _pack(shop: Workshop, layer: str, path: Path, limit: int) -> Message:
    """Let the helper write into a file of ours: it may not see the folder as we do."""
    try:
        with path.open("xb") as file:
            request = {"layer": layer, "single": shop.agent.mode.single, "limit": limit}
            return shop.agent.do("pack", request, [file.fileno()])
    except OSError as error:
        message = f"can't write the layer {path}: {error.strerror or error}"
        raise SolverError(message, hint=StorageError.hint) from error
    except JobRefusedError as error:
        if error.kind == "result":
            raise VerificationError(f"the run left what no layer can hold: {error}", hint=RAN_HINT) from error
        hint = StorageError.hint if error.kind == "storage" else None
        raise SolverError(f"can't write the layer {path}: {error}", hint=hint) from error


@contextlib.contextmanager
def _only_solver_errors() -> Iterator[None]:
    """Whatever failed, the solver has: a caller hears of one kind of error, with the cause's words and hint."""
    try:
        yield
    except SolverError:
        raise
    except CopaError as error:
        raise SolverError(str(error), hint=error.hint) from error


_: type[Solver] = WorkerSolver
