# SPDX-License-Identifier: Apache-2.0
"""`copa builders`."""

from __future__ import annotations

import sys
from typing import Any

import click

from copacetic.cli.builder import BUILDER, make_builder_settings
from copacetic.cli.options import apply, option

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

    Tries what a run would try, in that order, and starts nothing. Ends with 0 when at least one is usable.
    """
    from copacetic.buildkit.detect import find_builders
    from copacetic.buildkit.probe import ProbeState
    from copacetic.tables import builders_table

    report = find_builders(make_builder_settings(values))
    sys.stdout.write(report.to_json().decode() if values["format_"] == "json" else builders_table(report))
    if report.chosen is not None:
        return 0
    return EXIT_LACKING if any(probe.state is ProbeState.LACKING for probe in report.probes) else EXIT_NONE
