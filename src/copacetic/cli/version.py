# SPDX-License-Identifier: Apache-2.0
"""`copa version`."""

from __future__ import annotations

import platform
import sys

import click

from copacetic._version import __version__


@click.command
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", help="[text]")
def version(format_: str) -> None:
    """Print the version."""
    if format_ == "json":
        from copacetic.documents import write_document

        fields = {
            "version": __version__,
            "python": platform.python_version(),
            "platform": f"{sys.platform}/{platform.machine()}",
        }
        sys.stdout.write(write_document("version", fields).decode())
    else:
        sys.stdout.write(f"copa {__version__}\n")
