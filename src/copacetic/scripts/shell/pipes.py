# SPDX-License-Identifier: Apache-2.0
"""What is known of a pipe into `grep`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from copacetic.scripts.shell.expansion import Value
from copacetic.scripts.shell.machine import Reached, Surroundings

__all__ = ["finds_nothing"]

_NAME = re.compile("[a-z0-9][a-z0-9+.-]+")
_INSTALLED = re.compile(r"\^ii?(?:[^a-z].*)?")
"""What only rows of packages that are wanted begin with in dpkg's list."""


def finds_nothing(first: Reached, last: Reached, surroundings: Surroundings) -> bool:
    """Tell whether the second command is a `grep` that finds nothing in what the first one prints, for certain."""
    plain = last.words[0] == "grep" and len([w for w in last.words[1:] if w and not w.startswith("-")]) == 1
    if not plain or None in last.words or {"-v", "-c", "-L"} & set(last.words) or first.writes:
        return False
    return surroundings.read_output(first.words) == "" or _is_unlisted(first.words, last.words, surroundings)


def _is_unlisted(words: Sequence[Value], grep: Sequence[Value], surroundings: Surroundings) -> bool:
    """For a package that dpkg doesn't have, its list says nothing, or `un` where others mention it."""
    name = words[2] if len(words) == 3 and words[:2] in (("dpkg", "-l"), ("dpkg", "--list")) else None
    wanted = any(word is not None and _INSTALLED.fullmatch(word) for word in grep)
    known = name is not None and _NAME.fullmatch(name) is not None
    return known and wanted and surroundings.has_package(name or "") is False
