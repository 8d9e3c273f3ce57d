# SPDX-License-Identifier: Apache-2.0
"""
Questions that can be answered from the image: does a query succeed, has a command nothing left to do?

None is always a possible answer, and the only one for whatever isn't modelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from copacetic.errors import ImageError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.accounts import read_rows
from copacetic.scripts.handlers.alternatives import plan_alternative

if TYPE_CHECKING:
    from copacetic.inventory.dpkg.config import Diversion

__all__ = ["COMMANDS", "QUERIES", "Answer", "Arguments", "Question", "ask", "find_diversion", "is_settled"]

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


def is_settled(tree: TreeBuilder, words: Arguments) -> Answer:
    """Tell whether running a command would change nothing."""
    return ask(COMMANDS, tree, words)


def _operands(words: Arguments) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _read_lines(tree: TreeBuilder, path: str) -> list[str]:
    return split_lines((tree.find(path, limit=MAX_FILE) or b"").decode("utf-8", "surrogateescape"))


def _find_row(tree: TreeBuilder, path: str, name: str) -> list[str] | None:
    return next((row for row in read_rows(tree, path) if row[0] == name), None)


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
    return all(_is_absent(tree, path) for path in _operands(words))


def _is_absent(tree: TreeBuilder, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if not any(char in name for char in "*?["):
        return _entry(tree, path, follow=False) is None
    parent = _entry(tree, folder)
    return parent is None or not any(matches_glob(child, name) for child in tree.iterdir(folder[1:]))


def _rmdir(tree: TreeBuilder, words: Arguments) -> Answer:
    """What is absent or not empty stays so."""
    return all(_is_absent(tree, path) or bool(tree.iterdir(path[1:])) for path in _operands(words))


def _cmp(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _operands(words)
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


def _chown(tree: TreeBuilder, words: Arguments) -> Answer:
    """By number alone: names may be given to others meanwhile. From programs it would take bits and capabilities."""
    owner, *paths = _operands(words)
    match = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", owner)
    if len(words) != len(paths) + 1 or match is None or not paths:
        return None
    entries = [_entry(tree, path) for path in paths]
    plain = [e for e in entries if e is not None and (e.type is FileType.DIRECTORY or not e.mode & 0o7111)]
    return len(plain) == len(paths) and all((e.uid, e.gid) == (int(match[1]), int(match[2])) for e in plain)


def _add_shell(tree: TreeBuilder, words: Arguments) -> Answer:
    return set(_operands(words)) <= set(_read_lines(tree, "etc/shells"))


# -- Debian's own --------------------------------------------------------------------------------------------


def _statoverride(tree: TreeBuilder, words: Arguments) -> Answer:
    operands = _operands(words)
    if "--list" not in words or len(operands) != 1 or any(char in operands[0] for char in "*?["):
        return None
    return any(line.endswith(f" {operands[0]}") for line in _read_lines(tree, "var/lib/dpkg/statoverride"))


def _list(tree: TreeBuilder, words: Arguments) -> Answer:
    """Tell whether `dpkg --list` of one name has a row that is more than a name that others mention."""
    option, name = words
    fields = [f"Package: {name}"]
    return any(line in fields for line in _read_lines(tree, "var/lib/dpkg/status")) if option == "--list" else None


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


def find_diversion(tree: TreeBuilder, path: str) -> Diversion | None:
    from copacetic.inventory.dpkg.config import parse_diversions  # images of other families go without

    text = "\n".join(_read_lines(tree, "var/lib/dpkg/diversions"))
    return parse_diversions(f"{text}\n" if text else "").get(path.removeprefix("/"))


def _divert(tree: TreeBuilder, words: Arguments) -> Answer:
    """Nothing is left to do for `--remove` where nothing is diverted, or by another package."""
    if "--remove" not in words or set(words) & {"--add", "--divert", "--truename", "--list", "--listpackage"}:
        return None
    owner, rest = None, list(words)
    if "--package" in rest:
        owner = rest[rest.index("--package") + 1]
        del rest[rest.index("--package") : rest.index("--package") + 2]
    operands = _operands(rest)
    options = set(rest) - set(operands)
    if len(operands) != 1 or options - {"--remove", "--rename", "--no-rename", "--quiet", "--local"}:
        return None
    named = owner is not None or "--local" in options
    return True if named and find_diversion(tree, operands[0]) is None else None


QUERIES: Mapping[str, Question] = {
    "cmp": _cmp,
    "dpkg": _list,
    "dpkg-statoverride": _statoverride,
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
    "dpkg-divert": _divert,
    "update-rc.d": _service_links,
    "deb-systemd-helper": _systemd,
    "update-alternatives": _alternatives,
}
"""Tell whether running a command would change nothing."""
