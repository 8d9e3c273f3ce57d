# SPDX-License-Identifier: Apache-2.0
"""
Finding a builder that can be used, and telling what became of those that can't.

With an address only that one is tried. Without, the order is docker's own BuildKit, the builder that buildx has
selected, buildkitd at its default socket; the first that answers and can merge and diff is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from copacetic.buildkit.probe import BuilderReport, Probe, ProbeState
from copacetic.buildkit.solver import BuildkitSolver
from copacetic.connect.address import Address, BuildxAddress, DockerAddress, UnixAddress
from copacetic.connect.buildxstore import load_builder, selected_builder
from copacetic.connect.dial.docker import DockerDial
from copacetic.connect.dockercontext import current_endpoint, find_engine
from copacetic.connect.route import Route, find_routes
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import (
    BuilderUnreachableError,
    CopaError,
    DaemonUnreachableError,
    SolverError,
    UnsupportedBuilderError,
    UsageError,
)

__all__ = ["find_builders", "open_builder"]

_DEFAULT = "default"
_NO_MERGE_DIFF = "it can't merge and diff, which a single thin layer needs"


class _Attempt(Struct, frozen=True, kw_only=True):
    """A probe, with the solver when that is usable, and the error when there was one."""

    probe: Probe
    solver: BuildkitSolver | None = None
    error: CopaError | None = None


def open_builder(settings: BuilderSettings) -> BuildkitSolver:
    """
    Return a solver for the first builder that is usable; the caller closes it.

    A stopped container of buildx is started. Raises `BuilderUnreachableError` when nobody answers,
    `UnsupportedBuilderError` when only builders without merge and diff do, and `UsageError` for flags that don't fit
    the address.
    """
    attempts = []
    for attempt in _attempts(settings, start=True):
        if attempt.solver is not None:
            return attempt.solver
        attempts.append(attempt)
    raise _failure(attempts)


def find_builders(settings: BuilderSettings) -> BuilderReport:
    """Try all builders that `open_builder` might, and start none. Raises `UsageError` as that does."""
    probes = []
    for attempt in _attempts(settings, start=False):
        if attempt.solver is not None:
            attempt.solver.close()
        if settings.address is not None and isinstance(attempt.error, CopaError) and attempt.error.exit_code == 2:
            raise attempt.error
        probes.append(attempt.probe)
    return BuilderReport(probes=tuple(probes))


def _attempts(settings: BuilderSettings, *, start: bool) -> Iterator[_Attempt]:
    if settings.address is not None:
        yield from _try_address(settings.address, settings.origin, settings, start=start)
        return
    yield from _try_address(DockerAddress(), _DEFAULT, settings, start=start)
    skipped = _skip_buildx(settings)
    if skipped is None:
        yield from _try_address(BuildxAddress(), _DEFAULT, settings, start=start)
    else:
        yield _Attempt(probe=skipped)
    for path in _default_sockets(settings):
        yield from _try_address(UnixAddress(path=str(path)), _DEFAULT, settings, start=start)


def _default_sockets(settings: BuilderSettings) -> Iterator[Path]:
    yield settings.buildkit_socket
    if settings.runtime_dir is not None:
        rootless = settings.runtime_dir / "buildkit" / "buildkitd.sock"
        with suppress(OSError):
            if rootless.exists():
                yield rootless


def _skip_buildx(settings: BuilderSettings) -> Probe | None:
    """Return why buildx need not be asked; None when it has a builder of its own."""
    probe = Probe(address="buildx://", origin=_DEFAULT, state=ProbeState.SKIPPED)
    try:
        name = selected_builder(settings, current_endpoint(settings))
        if not name:
            return replace(
                probe, reason="buildx://: no builder is selected", fix="`docker buildx create --use` makes one"
            )
        builder = load_builder(settings, name)
        if builder is None:
            here, there = DockerAddress(), DockerAddress(context=name)
            if find_engine(here, settings).host == find_engine(there, settings).host:
                return replace(probe, reason=f"buildx://: the selected builder {name} is the engine of docker://")
    except CopaError:
        pass  # trying it tells
    return None


def _try_address(address: Address, origin: str, settings: BuilderSettings, *, start: bool) -> Iterator[_Attempt]:
    try:
        routes = find_routes(address, settings, start=start)
    except CopaError as error:
        unreachable = isinstance(error, DaemonUnreachableError)
        failure = BuilderUnreachableError(str(error), hint=error.hint) if unreachable else error
        yield _failed(Probe(address=str(address), origin=origin, state=ProbeState.FAILED), failure)
        return
    for route in routes:
        yield _try_route(route, origin)


def _try_route(route: Route, origin: str) -> _Attempt:
    probe = Probe(address=route.address, origin=origin, place=route.place, state=ProbeState.FAILED)
    solver = BuildkitSolver(route.connect, route.address)
    try:
        capabilities = solver.capabilities()
    except SolverError as error:
        solver.close()
        return _failed(_with_version(probe, route), BuilderUnreachableError(str(error), hint=error.hint))
    except UsageError as error:
        solver.close()
        return _failed(probe, error)
    except BaseException:
        solver.close()
        raise
    probe = replace(_with_version(probe, route), capabilities=capabilities)
    if capabilities.merge_diff:
        return _Attempt(probe=replace(probe, state=ProbeState.USABLE), solver=solver)
    fix = route.merge_diff_hint or "use buildkitd 0.10 or later"
    probe = replace(probe, state=ProbeState.LACKING, reason=f"{route.address}: {_NO_MERGE_DIFF}", fix=fix)
    solver.close()
    return _Attempt(probe=probe, error=UnsupportedBuilderError(probe.reason, hint=fix))


def _with_version(probe: Probe, route: Route) -> Probe:
    if isinstance(route.dial, DockerDial) and route.dial.version is not None:
        return replace(probe, place=f"{route.dial.version}, {probe.place}")
    return probe


def _failed(probe: Probe, error: CopaError) -> _Attempt:
    """A class's general hint leads to `copa builders`, so only a hint for this very error is a fix."""
    fix = error.hint if error.hint and error.hint != type(error).hint else ""
    reason = str(error)
    if not reason.startswith(probe.address):
        reason = f"{probe.address}: {reason}"
    return _Attempt(probe=replace(probe, reason=reason, fix=fix), error=error)


def _failure(attempts: list[_Attempt]) -> CopaError:
    if len(attempts) == 1 and attempts[0].error is not None:
        return attempts[0].error
    reasons = "; ".join(attempt.probe.reason for attempt in attempts)
    lacking = next((a.probe for a in attempts if a.probe.state is ProbeState.LACKING), None)
    if lacking is not None:
        return UnsupportedBuilderError(f"no usable builder: {reasons}", hint=lacking.fix)
    return BuilderUnreachableError(f"no builder answers: {reasons}")
