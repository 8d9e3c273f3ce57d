# SPDX-License-Identifier: Apache-2.0
"""Questions about Debian's own commands: does a query succeed, has a command nothing left to do?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from copacetic.inventory.dpkg.config import Diversion, parse_diversions
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.outputs import OUTPUTS, Output
from copacetic.scripts.settled import (
    COMMANDS,
    QUERIES,
    Answer,
    Arguments,
    Question,
    ask,
    operands_of,
    read_lines,
)
from copacetic.unpack.deb.handlers.alternatives import plan_alternative

__all__ = ["DEB_COMMANDS", "DEB_MADE", "DEB_OUTPUTS", "DEB_QUERIES", "find_settled"]


def find_settled(tree: TreeBuilder, words: Arguments) -> Answer:
    """Tell whether running a command would change nothing."""
    return ask(DEB_COMMANDS, tree, words)


def _statoverride(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = operands_of(words)
    if "--list" not in words or len(operands) != 1 or any(char in operands[0] for char in "*?["):
        return None
    return any(line.endswith(f" {operands[0]}") for line in read_lines(tree, "var/lib/dpkg/statoverride"))


def _list(tree: TreeBuilder, words: Arguments) -> Answer:
    """Tell whether `dpkg --list` of one name has a row that is more than a name that others mention."""
    option, name = words
    fields = [f"Package: {name}"]
    return any(line in fields for line in read_lines(tree, "var/lib/dpkg/status")) if option == "--list" else None


def _service_links(tree: TreeBuilder, words: Arguments) -> Answer:
    """update-rc.d leaves the links of a script that has some."""
    name = operands_of(words)[0]
    folders = [f"etc/rc{level}.d" for level in "0123456S"]
    pattern = re.compile(rf"[SK]\d\d{re.escape(name)}")
    return any(pattern.fullmatch(link) for folder in folders for link in tree.iterdir(folder)) or None


def _systemd(tree: TreeBuilder, words: Arguments) -> Answer:
    """deb-systemd-helper keeps a state file for each unit that it has enabled."""
    verb, unit = operands_of(words)[:2]
    if verb == "unmask":
        masked = tree.lookup(f"etc/systemd/system/{unit}", follow=False)
        return masked is None or masked.target != "/dev/null"
    if verb not in ("enable", "update-state"):
        return None
    state = "var/lib/systemd/deb-systemd-helper-enabled"
    return tree.lookup(f"{state}/{unit}.dsh-also") is not None or None


def _alternatives(tree: TreeBuilder, words: Arguments) -> Answer:
    edits = plan_alternative(tree, words)
    return None if edits is None else not edits


def _diversion(tree: TreeBuilder, path: str) -> Diversion | None:
    text = "\n".join(read_lines(tree, "var/lib/dpkg/diversions"))
    return parse_diversions(f"{text}\n" if text else "").get(path.removeprefix("/"))


def _divert(tree: TreeBuilder, words: Arguments) -> Answer:
    """Nothing is left to do for `--remove` where nothing is diverted, or by another package."""
    if "--remove" not in words or set(words) & {"--add", "--divert", "--truename", "--list", "--listpackage"}:
        return None
    owner, rest = None, list(words)
    if "--package" in rest:
        owner = rest[rest.index("--package") + 1]
        del rest[rest.index("--package") : rest.index("--package") + 2]
    operands = operands_of(rest)
    options = set(rest) - set(operands)
    if len(operands) != 1 or options - {"--remove", "--rename", "--no-rename", "--quiet", "--local"}:
        return None
    named = owner is not None or "--local" in options
    return True if named and _diversion(tree, operands[0]) is None else None


def _print_diversion(tree: TreeBuilder, words: Sequence[str]) -> str | None:
    """`dpkg-divert --listpackage` and `--truename`."""
    if len(words) != 2 or not words[1].startswith("/"):
        return None
    found = _diversion(tree, words[1])
    if words[0] == "--truename":
        return words[1] if found is None else f"/{found.to}"
    if words[0] == "--list":
        return None if found is not None or "*" in words[1] else ""
    if words[0] != "--listpackage":
        return None
    return "" if found is None else found.package or "LOCAL"


DEB_MADE: Mapping[str, frozenset[str]] = {
    "var/lib/dpkg": frozenset(("available", "lock", "lock-frontend", "status", "status-old", "triggers", "updates"))
}
"""What dpkg has in its folder while it runs scripts, whatever an image has there."""
DEB_OUTPUTS: Mapping[str, Output] = {**OUTPUTS, "dpkg-divert": _print_diversion}
DEB_QUERIES: Mapping[str, Question] = {**QUERIES, "dpkg": _list, "dpkg-statoverride": _statoverride}
DEB_COMMANDS: Mapping[str, Question] = {
    **COMMANDS,
    "dpkg-divert": _divert,
    "update-rc.d": _service_links,
    "deb-systemd-helper": _systemd,
    "update-alternatives": _alternatives,
}
