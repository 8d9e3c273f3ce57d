# SPDX-License-Identifier: Apache-2.0
"""`copa plan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from copacetic.cli.builder import EXECUTION
from copacetic.cli.options import COMMON, PATCHING, REGISTRY, REPOSITORY, apply, make_console, make_settings, option
from copacetic.cli.request import make_request

if TYPE_CHECKING:
    from copacetic.api import PlanSet


@click.command
@apply(
    PATCHING,
    (
        option("--format", "format_", type=click.Choice(("table", "json")), default="table", help="[table]"),
        option("-o", "--output", type=click.Path(path_type=Path), help="Write it to a file instead of stdout."),
        option("--show-llb", is_flag=True, help="Show what would be run, as a graph, instead of the plan."),
        option("--exit-code-no-change", type=click.IntRange(0, 255), default=0, help="When nothing is to do.  [0]"),
        option("-t", "--tag", default="", hidden=True),
        option("--push", is_flag=True, hidden=True),
        option("--to", "destination", default="", hidden=True),
    ),
    EXECUTION,
    REPOSITORY,
    REGISTRY,
    COMMON,
)
@click.pass_context
def plan(ctx: click.Context, /, **values: Any) -> int:
    """
    Show what patching an image would change, and why; nothing is changed.

    `--format json` is a lock file: `copa patch --plan FILE` applies exactly it.
    """
    from copacetic.api import plan as plan_image
    from copacetic.cli.outputs import check_file, write_file
    from copacetic.tables import plan_table

    if values["output"] is not None:
        check_file(values["output"])
    console = make_console(values)
    with console:
        plans = plan_image(
            make_request(values, console),
            settings=make_settings(values),
            progress=console,
            graphs=values["show_llb"],
        )
    if values["show_llb"]:
        text = _graphs(plans)
    else:
        text = plans.to_json().decode() if values["format_"] == "json" else plan_table(plans.plans)
    if values["output"] is None:
        sys.stdout.write(text)
    else:
        write_file(values["output"], text.encode())
    return 0 if any(one.updates for one in plans.plans) else int(values["exit_code_no_change"])


def _graphs(plans: PlanSet) -> str:
    """Say of every platform what would be run, or why nothing would be."""
    from copacetic.llb.dump import dump

    parts = []
    for plan in plans.plans:
        graph = plans.graphs.get(plan.image_digest)
        reason = plan.strategy_reason if plan.updates else "nothing to update"
        parts.append(f"no graph for {plan.platform}: {reason}\n" if graph is None else dump(graph))
    return "\n".join(parts)
