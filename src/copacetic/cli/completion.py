# SPDX-License-Identifier: Apache-2.0
"""`copa completion`."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class


@click.command
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """
    Print a shell's completion script.

    For bash: `source <(copa completion bash)`.
    """
    from copacetic.cli.root import copa

    kind = get_completion_class(shell)
    assert kind is not None
    sys.stdout.write(kind(copa, {}, "copa", "_COPA_COMPLETE").source() + "\n")
