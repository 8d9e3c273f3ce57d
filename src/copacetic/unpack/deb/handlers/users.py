# SPDX-License-Identifier: Apache-2.0
"""
System users and groups, made as Debian's adduser makes them.

Follows adduser(8) for `adduser --system`, `addgroup --system` and `adduser USER GROUP` with the options that
packages use. The rows go to the end of `passwd`, `shadow`, `group` and `gshadow`; the day of the last change of
password is that of the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.version import compare_versions

__all__ = ["AccountRequest", "make_account", "parse_account"]

FIRST, LAST = 100, 999
NOGROUP = 65534
MAX_FILE = 16 * 1024 * 1024
NEW_STYLE = "3.122"
"""Since this version of adduser, a system user has no home unless it is given, and no password ages."""
PLAIN_GECOS = "3.138"
"""Before this version, the full name is followed by the empty fields of finger."""
_FLAGS = frozenset(
    ("--system", "--group", "--no-create-home", "--quiet", "--disabled-password", "--disabled-login", "--force-badname")
)
_VALUES = frozenset(("--home", "--shell", "--gecos", "--ingroup", "--comment"))


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """A call of adduser or addgroup."""

    name: str
    group_of: str = ""
    """The group that the user joins; then nothing else counts."""
    is_group: bool = False
    flags: frozenset[str] = frozenset()
    values: Mapping[str, str] = field(default_factory=dict)


def parse_account(words: Sequence[str]) -> AccountRequest | None:
    """Understand a command line, or return None."""
    program = words[0].rpartition("/")[2]
    flags: set[str] = set()
    values: dict[str, str] = {}
    operands: list[str] = []
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        option, given, value = word.partition("=")
        if word in _FLAGS:
            flags.add(word)
        elif option in _VALUES and (given or rest):
            values[option] = value if given else rest.pop(0)
        elif word.startswith("-"):
            return None
        else:
            operands.append(word)
    if not operands or not all(_is_plain(text) for text in (*operands, *values.values())):
        return None
    if program == "adduser" and len(operands) == 2 and "--system" not in flags:
        return AccountRequest(operands[0], group_of=operands[1])
    if program not in ("adduser", "addgroup") or len(operands) != 1 or "--system" not in flags:
        return None
    return AccountRequest(operands[0], "", program == "addgroup", frozenset(flags), values)


def make_account(tree: TreeBuilder, request: AccountRequest, *, adduser: str, mtime: int) -> bool:
    """Make what is asked for, as this version of adduser does; returns False when it can't be done so."""
    if request.group_of:
        return _join(tree, request.name, request.group_of, mtime)
    if request.is_group:
        return _find(tree, "etc/group", request.name) is not None or _add_group(tree, request.name, mtime) is not None
    if _find(tree, "etc/passwd", request.name) is not None:
        return True
    return _add_user(tree, request, adduser, mtime)


def _add_user(tree: TreeBuilder, request: AccountRequest, adduser: str, mtime: int) -> bool:
    gid: int | None = NOGROUP
    if "--group" in request.flags:
        gid = _add_group(tree, request.name, mtime)
    elif "--ingroup" in request.values:
        row = _find(tree, "etc/group", request.values["--ingroup"])
        gid = int(row[2]) if row is not None and row[2].isdecimal() and len(row[2]) < 11 else None
    uid = _free_number(tree, "etc/passwd")
    if gid is None or uid is None:
        return False
    modern = compare_versions("deb", adduser, NEW_STYLE) >= 0
    home = request.values.get("--home", "/nonexistent" if modern else f"/home/{request.name}")
    shell = request.values.get("--shell", "/usr/sbin/nologin")
    gecos = request.values.get("--gecos", request.values.get("--comment", ""))
    if gecos and compare_versions("deb", adduser, PLAIN_GECOS) < 0:
        gecos += ",,,"
    _append(tree, "etc/passwd", f"{request.name}:x:{uid}:{gid}:{gecos}:{home}:{shell}", mtime)
    day = mtime // 86_400
    password = f"!:{day}::::::" if modern else f"*:{day}:0:99999:7:::"
    _append(tree, "etc/shadow", f"{request.name}:{password}", mtime)
    if home != "/nonexistent" and "--no-create-home" not in request.flags and tree.lookup(home) is None:
        tree.put(home, Entry(type=FileType.DIRECTORY, mode=0o755, uid=uid, gid=gid, mtime=mtime))
    return True


def _add_group(tree: TreeBuilder, name: str, mtime: int) -> int | None:
    gid = _free_number(tree, "etc/group")
    if gid is not None:
        _append(tree, "etc/group", f"{name}:x:{gid}:", mtime)
        _append(tree, "etc/gshadow", f"{name}:!::", mtime)
    return gid


def _join(tree: TreeBuilder, user: str, group: str, mtime: int) -> bool:
    if _find(tree, "etc/passwd", user) is None or _find(tree, "etc/group", group) is None:
        return False
    for path in ("etc/group", "etc/gshadow"):
        lines = _lines(tree, path)
        for index, line in enumerate(lines):
            row = line.split(":")
            if row[0] == group and len(row) == 4 and user not in row[3].split(","):
                row[3] = f"{row[3]},{user}" if row[3] else user
                lines[index] = ":".join(row)
        if lines:
            _write(tree, path, lines, mtime)
    return True


def _is_plain(text: str) -> bool:
    return not any(char in text for char in ":\n\0")


def _find(tree: TreeBuilder, path: str, name: str) -> list[str] | None:
    return next((row for line in _lines(tree, path) if (row := line.split(":"))[0] == name and len(row) > 2), None)


def _free_number(tree: TreeBuilder, path: str) -> int | None:
    used = {row[2] for line in _lines(tree, path) if len(row := line.split(":")) > 2}
    return next((number for number in range(FIRST, LAST + 1) if str(number) not in used), None)


def _append(tree: TreeBuilder, path: str, line: str, mtime: int) -> None:
    lines = _lines(tree, path)
    if lines:
        _write(tree, path, [*lines, line], mtime)


def _lines(tree: TreeBuilder, path: str) -> list[str]:
    try:
        return split_lines(tree.read(path, limit=MAX_FILE).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return []


def _write(tree: TreeBuilder, path: str, lines: Sequence[str], mtime: int) -> None:
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    tree.write(path, content, mtime=mtime)
