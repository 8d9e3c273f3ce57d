# SPDX-License-Identifier: Apache-2.0
"""
Answers that are always the same (version, help, completion scripts), kept as texts beside this file.

They come before anything is imported that parses flags. `python -m copacetic.cli.reference` writes them.
"""

from __future__ import annotations

import os

from copacetic._version import __version__

TYPE_CHECKING = False  # see `copacetic`
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FOLDER", "WIDTH", "find_page"]

FOLDER = os.path.join(os.path.dirname(__file__), "pages")
WIDTH = 80
"""Columns for which the texts were made; they are the same on anything wider."""
_HELP = ("--help", "-h")
_LONGEST = 20


def find_page(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return the answer to a command line; None when it takes more than a text, or a narrower one."""
    words = [word for word in arguments if word not in _HELP]
    if list(arguments) == ["--version"]:
        return f"copa {__version__}\n"
    asks = len(words) < len(arguments) and arguments[-1] in _HELP
    if words[:1] == ["help"] and not asks:
        words, asks = words[1:], True
    is_script = words[:1] == ["completion"] and len(words) == 2 and not asks
    if "_COPA_COMPLETE" in environment or not (asks or is_script) or (asks and _columns(environment) < WIDTH):
        return None
    if not all(word.isalpha() and word.islower() and len(word) <= _LONGEST for word in words):
        return None
    try:
        with open(os.path.join(FOLDER, "-".join(["copa", *words]) + ".txt"), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def _columns(environment: Mapping[str, str]) -> int:
    if environment.get("COLUMNS", "").isdigit():
        return int(environment["COLUMNS"])
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return WIDTH
