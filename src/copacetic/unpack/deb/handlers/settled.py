# SPDX-License-Identifier: Apache-2.0
"""
Questions that can be answered from the image: does a query succeed, has a command nothing left to do?

None is always a possible answer, and the only one for whatever isn't modelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from copacetic.errors import ImageError
from copacetic.oci.filesystem import Entry, FileType
from copacetic.unpack.deb.handlers.alternatives import plan_alternative
from copacetic.unpack.tree import TreeBuilder

__all__ = ["find_answer", "find_settled"]

MAX_FILE = 4 * 1024 * 1024
Arguments = Sequence[str]
Answer = bool | None


def find_answer(tree: TreeBuilder, words: Arguments) -> Answer:
    """Tell whether a query succeeds: `getent`, `id`, `dpkg-statoverride --list`, …"""
    return _look_up(_QUERIES, tree, words)


def find_settled(tree: TreeBuilder, words: Arguments) -> Answer:
    """Tell whether running a command would change nothing."""
    return _look_up(_COMMANDS, tree, words)


def _look_up(
    table: Mapping[str, Callable[[TreeBuilder, Arguments], Answer]], tree: TreeBuilder, words: Arguments
) -> Answer:
    function = table.get(words[0].rpartition("/")[2]) if words else None
    if function is None:
        return None
    try:
        return function(tree, words[1:])
    except (ImageError, ValueError, IndexError):
        return None


def _operands(words: Arguments) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _lines(tree: TreeBuilder, path: str) -> list[str]:
    try:
        return tree.read(path, limit=MAX_FILE).decode("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def _find_row(tree: TreeBuilder, path: str, name: str) -> list[str] | None:
    return next((row for line in _lines(tree, path) if (row := line.split(":"))[0] == name), None)


def _entry(tree: TreeBuilder, path: str, *, follow: bool = True) -> Entry | None:
    if not path.startswith("/") or any(char in path for char in "*?["):
        raise ValueError(path)
    return tree.lookup(path[1:], follow=follow)


# -- queries -------------------------------------------------------------------------------------------------


def _getent(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _operands(words)
    if len(operands) != 2 or operands[0] not in ("passwd", "group", "shadow", "gshadow") or operands[1].isdigit():
        return None
    return _find_row(tree, f"etc/{operands[0]}", operands[1]) is not None


def _id(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _operands(words)
    return _find_row(tree, "etc/passwd", operands[0]) is not None if len(operands) == 1 else None


def _statoverride(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _operands(words)
    if "--list" not in words or len(operands) != 1 or any(char in operands[0] for char in "*?["):
        return None
    return any(line.endswith(f" {operands[0]}") for line in _lines(tree, "var/lib/dpkg/statoverride"))


# -- commands ------------------------------------------------------------------------------------------------


def _user(tree: TreeBuilder, words: Arguments) -> Answer:
    """`adduser`, `useradd`: settled when the user is there, or is in the group."""
    operands = _bare_operands(words, _USER_OPTIONS)
    if len(operands) == 2:
        row = _find_row(tree, "etc/group", operands[1])
        return row is not None and operands[0] in row[3].split(",")
    return len(operands) == 1 and _find_row(tree, "etc/passwd", operands[0]) is not None


def _group(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _bare_operands(words, _USER_OPTIONS)
    return len(operands) == 1 and _find_row(tree, "etc/group", operands[0]) is not None


_USER_OPTIONS = frozenset(
    (
        *("--home", "--shell", "--uid", "--gid", "--ingroup", "--gecos", "--comment", "--firstuid", "--lastuid"),
        *("--conf", "-d", "-s", "-u", "-g", "-c", "-G", "-k", "-K", "-b", "-h"),
    )
)


def _bare_operands(words: Arguments, with_value: frozenset[str]) -> list[str]:
    operands: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in with_value
        else:
            operands.append(word)
    return operands


def _remove(tree: TreeBuilder, words: Arguments) -> Answer:
    return all(_entry(tree, path, follow=False) is None for path in _operands(words))


def _mkdir(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _bare_operands(words, frozenset(("-m", "--mode")))
    entries = [_entry(tree, path) for path in operands]
    return "-p" in words and all(entry is not None and entry.type is FileType.DIRECTORY for entry in entries)


def _symlink(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _operands(words)
    options = "".join(word[1:] for word in words if word.startswith("-") and not word.startswith("--"))
    if len(operands) != 2 or "s" not in options or "f" not in options:
        return None
    entry = _entry(tree, operands[1], follow=False)
    return entry is not None and entry.type is FileType.SYMLINK and entry.target == operands[0]


def _chmod(tree: TreeBuilder, words: Arguments) -> Answer:
    mode, *paths = _operands(words)
    if len(words) != len(paths) + 1 or re.fullmatch("[0-7]{3,4}", mode) is None:
        return None
    entries = [_entry(tree, path) for path in paths]
    return all(entry is not None and entry.mode == int(mode, 8) for entry in entries)


def _service_links(tree: TreeBuilder, words: Arguments) -> Answer:
    """update-rc.d leaves the links of a script that has some."""
    name = _operands(words)[0]
    folders = [f"etc/rc{level}.d" for level in "0123456S"]
    pattern = re.compile(rf"[SK]\d\d{re.escape(name)}")
    return any(pattern.fullmatch(link) for folder in folders for link in tree.iterdir(folder)) or None


def _systemd(tree: TreeBuilder, words: Arguments) -> Answer:
    """deb-systemd-helper keeps a state file for each unit that it has enabled."""
    verb, unit = _operands(words)[:2]
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


def _add_shell(tree: TreeBuilder, words: Arguments) -> Answer:
    return set(_operands(words)) <= set(_lines(tree, "etc/shells"))


_QUERIES: Mapping[str, Callable[[TreeBuilder, Arguments], Answer]] = {
    "getent": _getent,
    "id": _id,
    "dpkg-statoverride": _statoverride,
}
_COMMANDS: Mapping[str, Callable[[TreeBuilder, Arguments], Answer]] = {
    "adduser": _user,
    "useradd": _user,
    "addgroup": _group,
    "groupadd": _group,
    "rm": _remove,
    "rmdir": _remove,
    "mkdir": _mkdir,
    "ln": _symlink,
    "chmod": _chmod,
    "update-rc.d": _service_links,
    "deb-systemd-helper": _systemd,
    "update-alternatives": _alternatives,
    "add-shell": _add_shell,
}
