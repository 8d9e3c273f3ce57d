# SPDX-License-Identifier: Apache-2.0
"""`copa version`."""

from __future__ import annotations

import json
import platform
import sys

import click

from copacetic._version import __version__


@click.command
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", help="[text]")
def version(format_: str) -> None:
    """Print the version."""
    if format_ == "json":
        document = {
            "schemaVersion": 1,
            "kind": "copacetic.version",
            "version": __version__,
            "python": platform.python_version(),
            "platform": f"{sys.platform}/{platform.machine()}",
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(f"copa {__version__}\n")
