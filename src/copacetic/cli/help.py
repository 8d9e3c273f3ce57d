# SPDX-License-Identifier: Apache-2.0
"""`copa help`."""

from __future__ import annotations

import sys

import click


@click.command(name="help", add_help_option=False)
@click.argument("command", nargs=-1)
def help_(command: tuple[str, ...]) -> None:
    """Show a command's flags, as `copa COMMAND --help` does."""
    from copacetic.cli.root import copa

    context = click.Context(copa, info_name="copa", **copa.context_settings)
    found: click.Command = copa
    for name in command:
        if not isinstance(found, click.Group):
            raise click.UsageError(f"{context.command_path} has no commands of its own", context)
        _, child, _ = found.resolve_command(context, [name])
        assert child is not None
        found, context = child, click.Context(child, info_name=name, parent=context)
    sys.stdout.write(f"{found.get_help(context)}\n")
