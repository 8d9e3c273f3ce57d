# SPDX-License-Identifier: Apache-2.0
"""
The command line's reference page and its texts for help and completion, made from the commands themselves.

`python -m copacetic.cli.reference` writes both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from copacetic.cli.completion import SHELLS, completion_script
from copacetic.cli.page import FOLDER, WIDTH
from copacetic.cli.root import COMMANDS, EXIT_CODES, copa

_HEAD = """\
# Command line

Made by `python -m copacetic.cli.reference`; a test keeps it up to date.

Results go to stdout, everything else to stderr. `copa patch` prints one line, `name@digest`, and nothing when nothing
changed. With `-o -` the document takes the place of that line.

Every flag of a command is also read from the environment: `COPA_` and the flag in capitals, with `_` for `-`. A flag
goes before the environment, the environment before the [configuration file](configuration.md).
"""


def reference() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_pages()]) + "\n"


def _pages() -> Iterator[str]:
    root = click.Context(copa, info_name="copa")
    for name in COMMANDS:
        command = copa.get_command(root, name)
        assert command is not None
        yield from _page(command, f"copa {name}")
    yield "## Exit codes\n"
    yield "| code | meaning |\n|---|---|"
    yield from (f"| {code} | {text} |" for code, text in EXIT_CODES)


def _page(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path, **copa.context_settings)
    yield f"## `{path}`\n"
    yield "\n".join(line.strip() for line in (command.help or "").splitlines()).strip() + "\n"
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from (line.replace("## `", "### `", 1) for line in _page(child, f"{path} {name}"))
        return
    yield f"`{path} {' '.join(command.collect_usage_pieces(context))}`\n"
    yield "| flag | meaning |\n|---|---|"
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            flag, text = (part.replace("|", "\\|") for part in record)
            yield f"| `{flag}` | {text} |"
    yield ""


def help_pages() -> Mapping[str, str]:
    """Return the texts of `cli.page` by the names of their files."""
    pages = {f"copa-completion-{shell}": completion_script(shell) for shell in SHELLS}
    pages |= _help_of(copa, click.Context(copa, info_name="copa", terminal_width=WIDTH - 2, **copa.context_settings))
    return {f"{name}.txt": text for name, text in pages.items()}


def _help_of(command: click.Command, context: click.Context) -> Mapping[str, str]:
    pages = {context.command_path.replace(" ", "-"): f"{command.get_help(context)}\n"}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            if child.add_help_option:
                pages |= _help_of(child, click.Context(child, info_name=name, parent=context))
    return pages


def _write() -> None:
    Path("docs/reference/cli.md").write_text(reference())
    for name, text in help_pages().items():
        Path(FOLDER, name).write_text(text)


if __name__ == "__main__":
    _write()
