# SPDX-License-Identifier: Apache-2.0
"""
alternatives of the Red Hat family: which of several programs a generic name stands for.

Follows alternatives(8): a file for each name has the mode and the generic link, the same of what belongs to it, an
empty line, and then each choice with its priority and what it has for those.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from copacetic.lines import split_lines
from copacetic.oci.tree import TreeBuilder

__all__ = ["is_chosen"]

FOLDER = "var/lib/alternatives"
LINKS = "etc/alternatives"
MAX_FILE = 1024 * 1024


class _Choice(Struct, frozen=True):
    path: str
    priority: str
    followers: tuple[str, ...]


def is_chosen(tree: TreeBuilder, words: Sequence[str]) -> bool:
    """
    Tell whether `--install` would change nothing: the name has this choice, with all that belongs to it, and stands
    for what it would stand for.
    """
    if words[:1] != ["--install"] or len(words) < 5 or (len(words) - 5) % 4:
        return False
    link, name, path, priority = words[1:5]
    rest = [tuple(words[start : start + 4]) for start in range(5, len(words), 4)]
    if "/" in name or any(one[0] not in ("--slave", "--follower") for one in rest):
        return False
    data = tree.find(f"{FOLDER}/{name}", limit=MAX_FILE)
    lines = split_lines(data.decode("utf-8", "surrogateescape")) if data is not None else []
    if "" not in lines[2:] or lines[0] not in ("auto", "manual") or lines[1] != link:
        return False
    blank = lines.index("", 2)
    names = dict(zip(lines[2:blank:2], lines[3:blank:2], strict=False))
    width = 2 + len(names)
    choices = [
        _Choice(lines[start], lines[start + 1], tuple(lines[start + 2 : start + width]))
        for start in range(blank + 1, len(lines) - width + 1, width)
    ]
    wanted = {one[2]: one[3] for one in rest}
    followers = tuple(wanted.get(one, "") for one in names)
    known = all(names.get(one[2]) == one[1] for one in rest)
    if not known or _Choice(path, priority, followers) not in choices:
        return False
    best = max(choices, key=lambda choice: int(choice.priority) if choice.priority.isdigit() else -1)
    current = tree.target_of(f"{LINKS}/{name}")
    chosen = current == best.path if lines[0] == "auto" else current in {choice.path for choice in choices}
    return chosen and tree.target_of(link.lstrip("/")) == f"/{LINKS}/{name}"
