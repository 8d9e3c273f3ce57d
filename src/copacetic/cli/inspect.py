# SPDX-License-Identifier: Apache-2.0
"""`copa inspect`."""

from __future__ import annotations

import sys
from typing import Any

import click

from copacetic.cli.options import COMMON, REGISTRY, CommaList, apply, make_console, make_settings, option


@click.command
@click.argument("image")
@apply(
    (
        option("--platform", type=CommaList(), default="", help="Platforms, as in linux/amd64.  [all]"),
        option("--format", "format_", type=click.Choice(("table", "json")), default="table", help="[table]"),
    ),
    REGISTRY,
    COMMON,
)
@click.pass_context
def inspect(ctx: click.Context, /, **values: Any) -> int:
    """Show what is installed in an image, which layer it came with, and which distribution it is."""
    from copacetic.api import inspect as inspect_image
    from copacetic.tables import inspection_table

    console = make_console(values)
    with console:
        inspection = inspect_image(
            values["image"], platforms=values["platform"], settings=make_settings(values), progress=console
        )
    sys.stdout.write(inspection.to_json().decode() if values["format_"] == "json" else inspection_table(inspection))
    return 0
