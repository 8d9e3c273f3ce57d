# SPDX-License-Identifier: Apache-2.0
"""
The command line: the only place that reads the environment and ends the process.

Commands live in modules of their own, imported when they are used: `copa --help` has to be quick.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # see `copacetic`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from copacetic.cli.ending import Ending


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command and return its exit code; nothing escapes but defects under `--debug`.

    Signals and their timer are left as they were.
    """
    from copacetic.cli.ending import Ending, restore_signals

    with restore_signals():
        return _main(list(sys.argv[1:] if argv is None else argv), Ending())


def _main(arguments: list[str], ending: Ending) -> int:
    import click

    from copacetic.cli.ending import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, EndedEarlyError
    from copacetic.cli.environment import configuration
    from copacetic.cli.root import copa
    from copacetic.errors import CopaError

    try:
        defaults = configuration(os.environ)
        result = copa.main(args=arguments, prog_name="copa", standalone_mode=False, default_map=defaults, obj=ending)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except EndedEarlyError as early:
        ending.show(early)
        return early.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        _say(f"interrupted; {ending.tell_fate()}")
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        _fail(error.format_message(), f"see `{context.command_path} --help`" if context else None, ending)
        return 2
    except CopaError as error:
        _fail(str(error), error.hint, ending)
        _trace(arguments)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}", None, ending)
        _trace(arguments)
        return 1
    except Exception as error:  # noqa: BLE001 - a defect ends in one line, too
        _fail(
            f"{type(error).__name__}: {error}", "this is a defect: please report it with the output of --debug", ending
        )
        _trace(arguments)
        return 1
    return int(result or 0)


def run() -> NoReturn:
    """The entry point of the installed program."""
    from copacetic.cli.page import find_page

    page = find_page(sys.argv[1:], os.environ)
    if page is not None:
        try:
            sys.stdout.write(page)
            sys.stdout.flush()
        except OSError:
            pass  # what follows says the same, and what is wrong with it
        else:
            sys.exit(0)
    from copacetic.cli.ending import Ending

    gc.set_threshold(50_000, 20, 100)  # nearly all that a run makes stays, and is looked through for nothing
    ending = Ending()
    ending.run_process(lambda: _main(sys.argv[1:], ending))


def _fail(message: str, hint: str | None, ending: Ending) -> None:
    from copacetic.console import format_error

    _say(format_error(message, hint))
    if ending.console is not None and ending.console.reference:
        _say(f"note: {ending.tell_fate()}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _trace(arguments: Sequence[str]) -> None:
    if "--debug" in arguments or os.environ.get("COPA_DEBUG", "") not in {"", "0", "false"}:
        import traceback

        traceback.print_exc()
