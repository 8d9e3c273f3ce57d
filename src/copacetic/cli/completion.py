# SPDX-License-Identifier: Apache-2.0
"""`copa completion`."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """
    Print a shell's completion script.

    For bash: `source <(copa completion bash)`.
    """
    sys.stdout.write(completion_script(shell))


def completion_script(shell: str) -> str:
    """Return the script for one of `SHELLS`."""
    from copacetic.cli.root import copa

    kind = get_completion_class(shell)
    assert kind is not None
    return kind(copa, {}, "copa", "_COPA_COMPLETE").source() + "\n"
