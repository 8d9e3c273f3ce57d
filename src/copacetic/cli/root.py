# SPDX-License-Identifier: Apache-2.0
"""The `copa` command and its subcommands, by the modules that hold them."""

from __future__ import annotations

import difflib
from importlib import import_module

import click

from copacetic._version import __version__

COMMANDS = {
    "patch": ("copacetic.cli.patch:patch", "Patch an image, prove the result, and publish it."),
    "plan": ("copacetic.cli.plan:plan", "Show what patching would change, and why."),
    "inspect": ("copacetic.cli.inspect:inspect", "Show what is installed, and which layer it came with."),
    "builders": ("copacetic.cli.builders:builders", "Show which builders there are, and what is wrong with them."),
    "cache": ("copacetic.cli.cache:cache", "Look at the cache, or make it smaller."),
    "version": ("copacetic.cli.version:version", "Print the version."),
    "help": ("copacetic.cli.help:help_", "Show a command's flags."),
    "completion": ("copacetic.cli.completion:completion", "Print a shell's completion script."),
}

EXIT_CODES = (
    (0, "patched, or nothing to do (see --exit-code-no-change)"),
    (1, "network, registry, repository or disk failed"),
    (2, "wrong flag, report, plan or configuration"),
    (3, "the image or its distribution is not supported, or broken"),
    (4, "a requested fix can't be delivered; nothing was published"),
    (5, "the result is not what was planned; nothing was published"),
    (130, "interrupted"),
    (143, "terminated"),
)


class _Lazy(click.Group):
    """A group that imports a command when it is called, and guesses what was meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry[0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            guess = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {args[0][:80]!r}.{guess}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="copa %(version)s")
def copa() -> None:
    """
    Patch vulnerable container images directly: one thin layer, no Dockerfile, no daemon, no root.

    Results go to stdout, everything else to stderr. Every flag of a command is also read from the environment:
    COPA_ and the flag in capitals, as in COPA_CACHE_DIR. A flag goes before the environment, and that before the
    configuration file.
    """
