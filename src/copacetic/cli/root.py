# SPDX-License-Identifier: Apache-2.0
"""The `copa` command and its subcommands, by the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from copacetic._version import __version__
from copacetic.loader import load

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


def _defaults(configuration: Mapping[str, Any], name: str, command: click.Command) -> Mapping[str, Any]:
    """Return a command's part of the configuration by the names that click knows. Raises `click.UsageError`."""
    unknown = sorted(key for key in configuration if key not in COMMANDS)
    if unknown:
        raise click.UsageError(f"the configuration has {unknown[0][:80]!r}, which is no command")
    table = configuration.get(name, {})
    if not isinstance(table, dict):
        raise click.UsageError(f"the configuration's {name!r} is no table")
    flags = {option: param.name for param in command.params for option in (*param.opts, *param.secondary_opts)}
    for key in table:
        if f"--{key}" not in flags:
            close = _closest(f"--{key}", flags)
            guess = f"; did you mean {close.lstrip('-')!r}?" if close else ""
            raise click.UsageError(f"the configuration's [{name}] has {key[:80]!r}, which is no flag{guess}")
    return {str(flags[f"--{key}"]): value for key, value in table.items()}


def _closest(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1)), "")


class _Lazy(click.Group):
    """A group that imports a command when it is called, and guesses what was meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = load(entry[0])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = _closest(args[0], COMMANDS)
            guess = f" Did you mean {close!r}?" if close else ""
            raise click.UsageError(f"No such command {args[0][:80]!r}.{guess}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if ctx.default_map and name and command and not isinstance(command, click.Group):
            ctx.default_map = {**ctx.default_map, name: _defaults(ctx.default_map, name, command)}
        return name, command, rest

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
