# SPDX-License-Identifier: Apache-2.0
"""`copa builders`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from copacetic.cli.builder import BUILDER, make_builder_settings, select_worker
from copacetic.cli.options import apply, option
from copacetic.cli.sandbox import WORKER

if TYPE_CHECKING:
    from copacetic.buildkit.probe import BuilderReport, Probe

EXIT_NONE, EXIT_LACKING = 1, 3


@click.command
@apply(
    BUILDER,
    (
        option("--format", "format_", type=click.Choice(("table", "json")), default="table", help="[table]"),
        option("--debug", is_flag=True, help="Show decisions, and tracebacks of errors."),
    ),
)
def builders(**values: Any) -> int:
    """
    Show which builders there are, what they can do, and what to do where they can't be used.

    Tries what a run would try, in that order: builders, and this machine's own sandbox as worker://. Starts none. Ends
    with 0 when at least one is usable.
    """
    from copacetic.buildkit.probe import ProbeState
    from copacetic.tables import builders_table

    report = _look(values)
    sys.stdout.write(report.to_json().decode() if values["format_"] == "json" else builders_table(report))
    if report.chosen is not None:
        return 0
    return EXIT_LACKING if any(probe.state is ProbeState.LACKING for probe in report.probes) else EXIT_NONE


def _look(values: dict[str, Any]) -> BuilderReport:
    """Try builders, and last this machine where no address says otherwise."""
    from copacetic.buildkit.detect import find_builders
    from copacetic.buildkit.probe import BuilderReport

    if select_worker(values):
        return BuilderReport(probes=(_probe_worker("--addr" if values["addr"] else "BUILDKIT_HOST"),))
    settings = make_builder_settings(values)
    report = find_builders(settings)
    if settings.address is not None:
        return report
    return replace(report, probes=(*report.probes, _probe_worker("default")))


def _probe_worker(origin: str) -> Probe:
    from copacetic.buildkit.probe import Probe, ProbeState
    from copacetic.cache import Cache
    from copacetic.errors import SolverError
    from copacetic.worker import WorkerSettings, WorkerSolver

    probe = Probe(address=WORKER, origin=origin, place="a sandbox of this machine", state=ProbeState.FAILED)
    with tempfile.TemporaryDirectory(prefix="copacetic-") as folder:
        worker = WorkerSolver(WorkerSettings(cache=Cache(Path(folder), temporary=True)))
        try:
            capabilities = worker.capabilities()
        except SolverError as error:
            return replace(probe, reason=str(error), fix=error.hint or "")
        finally:
            worker.close()
    return replace(probe, place=capabilities.name, state=ProbeState.USABLE, capabilities=capabilities)
