# SPDX-License-Identifier: Apache-2.0
"""`copa patch`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from copacetic.cli.builder import EXECUTION
from copacetic.cli.options import COMMON, PATCHING, REGISTRY, REPOSITORY, apply, make_console, make_settings, option
from copacetic.cli.request import make_request

if TYPE_CHECKING:
    from copacetic.pipeline.outcome import Outcome

FORMATS = ("json", "openvex")


@click.command
@apply(
    PATCHING,
    (
        option("-t", "--tag", default="", help="The result's tag, or a full reference.  [TAG-patched]"),
        option("--push", is_flag=True, help="Push to the image's repository, or to --tag."),
        option("--to", "destination", metavar="DEST", default="", help="Write the result there, in --image's forms."),
        option("--plan", "plan_file", type=click.Path(path_type=Path), help="Apply exactly this plan."),
        option("--trust-plan", is_flag=True, help="Take the plan's word for its packages; they are named."),
        option("-o", "--output", multiple=True, metavar="[FORMAT=]FILE", help="Write the outcome; - is stdout."),
        option("--format", "format_", type=click.Choice(FORMATS), default="json", help="Of --output.  [json]"),
        option(
            "--compression",
            type=click.Choice(("auto", "gzip", "zstd")),
            default="auto",
            help="Of the new layer.  [auto]",
        ),
        option("--digestfile", type=click.Path(path_type=Path), help="Write the result's digest to a file."),
        option("--exit-code-no-change", type=click.IntRange(0, 255), default=0, help="When nothing was to do.  [0]"),
    ),
    EXECUTION,
    REPOSITORY,
    REGISTRY,
    COMMON,
)
@click.pass_context
def patch(ctx: click.Context, /, **values: Any) -> int:
    """
    Patch an image, prove the result, and publish it.

    With a report, fixes what it names; without, takes every available update. Prints one REF@DIGEST on stdout; when
    there was nothing to do it prints nothing and writes no image.
    """
    from copacetic.api import patch as patch_image
    from copacetic.cli.outputs import check_file, check_outputs, write_file, write_outputs

    outputs = check_outputs(values["output"], values["format_"])
    if values["digestfile"] is not None:
        check_file(values["digestfile"])
    console = make_console(values)
    with console:
        request = replace(make_request(values, console), documents=frozenset(name for name, _ in outputs))
        outcome = patch_image(request, settings=make_settings(values), progress=console)
    console.show_outcome(outcome)
    write_outputs(outcome, outputs)
    _report_to_ci(outcome)
    if outcome.digest is not None and values["digestfile"] is not None:
        write_file(values["digestfile"], f"{outcome.digest}\n".encode())
    if not outcome.changed:
        return int(values["exit_code_no_change"])
    if not any(path == "-" for _, path in outputs):
        sys.stdout.write(f"{outcome.reference}\n")
    return 0


def _report_to_ci(outcome: Outcome) -> None:
    """Give GitHub's runner what later steps need."""
    output = os.environ.get("GITHUB_OUTPUT")
    if output:
        lines = f"image={outcome.reference}\ndigest={outcome.digest}\n" if outcome.changed else ""
        with Path(output).open("a", encoding="utf-8") as file:
            file.write(f"changed={str(outcome.changed).lower()}\n{lines}")
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        from copacetic.tables import outcome_markdown

        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(outcome_markdown(outcome))
