# SPDX-License-Identifier: Apache-2.0
"""
Questions that can be answered from the image: does a query succeed, has a command nothing left to do?

None is always a possible answer, and the only one for whatever isn't modelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from copacetic.errors import ImageError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder

__all__ = ["COMMANDS", "QUERIES", "Answer", "Arguments", "Question", "ask", "operands_of", "read_lines"]

MAX_FILE = 4 * 1024 * 1024
Arguments = Sequence[str]
Answer = bool | None
Question = Callable[[TreeBuilder, Arguments], Answer]


def ask(table: Mapping[str, Question], tree: TreeBuilder, words: Arguments) -> Answer:
    """Look a command up in a table and answer its question; what is hard to tell is None."""
    question = table.get(words[0].rpartition("/")[2]) if words else None
    if question is None:
        return None
    try:
        return question(tree, words[1:])
    except (ImageError, ValueError, IndexError):
        return None


def operands_of(words: Arguments) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def read_lines(tree: TreeBuilder, path: str) -> list[str]:
    try:
        return split_lines(tree.read(path, limit=MAX_FILE).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return []


def _find_row(tree: TreeBuilder, path: str, name: str) -> list[str] | None:
    return next((row for line in read_lines(tree, path) if (row := line.split(":"))[0] == name), None)


def _entry(tree: TreeBuilder, path: str, *, follow: bool = True) -> Entry | None:
    if not path.startswith("/") or any(char in path for char in "*?["):
        raise ValueError(path)
    return tree.lookup(path[1:], follow=follow)


# -- queries -------------------------------------------------------------------------------------------------


def _getent(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = operands_of(words)
    if len(operands) != 2 or operands[0] not in ("passwd", "group", "shadow", "gshadow") or operands[1].isdigit():
        return None
    return _find_row(tree, f"etc/{operands[0]}", operands[1]) is not None


def _id(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = operands_of(words)
    return _find_row(tree, "etc/passwd", operands[0]) is not None if len(operands) == 1 else None


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
    return all(_is_absent(tree, path) for path in operands_of(words))


def _is_absent(tree: TreeBuilder, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if not any(char in name for char in "*?["):
        return _entry(tree, path, follow=False) is None
    parent = _entry(tree, folder)
    return parent is None or not any(matches_glob(child, name) for child in tree.iterdir(folder[1:]))


def _rmdir(tree: TreeBuilder, words: Arguments) -> Answer:
    """What is absent or not empty stays so."""
    return all(_is_absent(tree, path) or bool(tree.iterdir(path[1:])) for path in operands_of(words))


def _cmp(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = operands_of(words)
    entries = [_entry(tree, path) for path in operands]
    if len(operands) != 2 or set(words) - set(operands) - {"-s", "--quiet", "--silent"}:
        return None
    if any(entry is None or entry.type is not FileType.FILE for entry in entries):
        return False if None in entries else None
    left, right = (tree.read(path[1:], limit=MAX_FILE) for path in operands)
    return left == right


def _mkdir(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _bare_operands(words, frozenset(("-m", "--mode")))
    entries = [_entry(tree, path) for path in operands]
    return "-p" in words and all(entry is not None and entry.type is FileType.DIRECTORY for entry in entries)


def _symlink(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = operands_of(words)
    options = "".join(word[1:] for word in words if word.startswith("-") and not word.startswith("--"))
    if len(operands) != 2 or "s" not in options or "f" not in options:
        return None
    entry = _entry(tree, operands[1], follow=False)
    return entry is not None and entry.type is FileType.SYMLINK and entry.target == operands[0]


def _chmod(tree: TreeBuilder, words: Arguments) -> Answer:
    mode, *paths = operands_of(words)
    if len(words) != len(paths) + 1 or re.fullmatch("[0-7]{3,4}", mode) is None:
        return None
    entries = [_entry(tree, path) for path in paths]
    return all(entry is not None and entry.mode == int(mode, 8) for entry in entries)


def _chown(tree: TreeBuilder, words: Arguments) -> Answer:
    """By number alone: names may be given to others meanwhile. From programs it would take bits and capabilities."""
    owner, *paths = operands_of(words)
    match = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", owner)
    if len(words) != len(paths) + 1 or match is None or not paths:
        return None
    entries = [_entry(tree, path) for path in paths]
    plain = [e for e in entries if e is not None and (e.type is FileType.DIRECTORY or not e.mode & 0o7111)]
    return len(plain) == len(paths) and all((e.uid, e.gid) == (int(match[1]), int(match[2])) for e in plain)


def _add_shell(tree: TreeBuilder, words: Arguments) -> Answer:
    return set(operands_of(words)) <= set(read_lines(tree, "etc/shells"))


QUERIES: Mapping[str, Question] = {
    "cmp": _cmp,
    "getent": _getent,
    "id": _id,
}
"""Tell whether a query succeeds."""
COMMANDS: Mapping[str, Question] = {
    "adduser": _user,
    "useradd": _user,
    "addgroup": _group,
    "groupadd": _group,
    "rm": _remove,
    "rmdir": _rmdir,
    "mkdir": _mkdir,
    "ln": _symlink,
    "chmod": _chmod,
    "chown": _chown,
    "add-shell": _add_shell,
}
"""Tell whether running a command would change nothing."""
