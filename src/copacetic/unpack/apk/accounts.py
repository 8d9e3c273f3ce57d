# SPDX-License-Identifier: Apache-2.0
"""
System users and groups, made as busybox's `addgroup` and `adduser` make them.

Rows go to the end of `group`, `passwd` and `shadow`, and the file as it was before stays as `group-` and so on. The
day of the last change of password is that of the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.strict import read_digits
from copacetic.unpack.apk.effects import Effect
from copacetic.version import compare_versions

__all__ = ["make_account"]

FIRST, LAST = 100, 999
MAX_FILE = 16 * 1024 * 1024
NO_FINGER = "1.37"
"""Since this version of busybox a user without a full name has none; before that it is `Linux User,,,`."""
_FLAGS: Mapping[str, tuple[str, str]] = {"addgroup": ("S", "g"), "adduser": ("SDH", "hsGgu")}
"""Options without and with a value."""


def make_account(tree: TreeBuilder, words: list[str], *, busybox: str, mtime: int) -> Effect | None:
    """Do what `addgroup` or `adduser` of this version of busybox does; None for options that aren't modelled."""
    program = words[0].rpartition("/")[2]
    parsed = _parse(words[1:], *_FLAGS[program])
    if parsed is None or not all(_is_plain(tree, name) for name in ("group", "passwd", "shadow")):
        return None
    options, operands = parsed
    if not all(_is_word(word) for word in (*operands, *options.values())):
        return None
    if len(operands) == 2 and not options:
        return _join(tree, operands[0], operands[1])
    if len(operands) != 1 or "S" not in options or tree.lookup("etc/gshadow") is not None:
        return None
    if program == "addgroup":
        return _add_group(tree, operands[0], options.get("g", ""))
    return _add_user(tree, operands[0], options, busybox, mtime)


def _parse(words: list[str], flags: str, valued: str) -> tuple[dict[str, str], list[str]] | None:
    options: dict[str, str] = {}
    operands: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in flags:
                options[letter] = ""
            elif letter in valued and (letters or rest):
                options[letter], letters = letters or rest.pop(0), ""
            else:
                return None
    return options, operands


def _add_group(tree: TreeBuilder, name: str, number: str) -> Effect | None:
    rows = _rows(tree, "group")
    taken = {row[2] for row in rows if len(row) > 2}
    if number and not number.isdecimal():
        return None
    if any(row[0] == name for row in rows) or number in taken:
        return Effect(succeeds=False)
    gid = number or _free(taken)
    if gid is None:
        return Effect(succeeds=False)
    _update(tree, "group", lambda lines: [*lines, f"{name}:x:{gid}:"])
    return Effect(changed=True)


def _add_user(tree: TreeBuilder, name: str, options: Mapping[str, str], busybox: str, mtime: int) -> Effect | None:
    rows = _rows(tree, "passwd")
    taken = {row[2] for row in rows if len(row) > 2}
    group = next((row for row in _rows(tree, "group") if row[0] == options.get("G", "nogroup")), None)
    wanted = options.get("u", "")
    if wanted and not wanted.isdecimal():
        return None
    uid = wanted or _free(taken)
    if any(row[0] == name for row in rows) or group is None or uid is None or wanted in taken:
        return Effect(succeeds=False)
    uid_number, gid_number = read_digits(uid, most=10), read_digits(group[2], most=10) if len(group) == 4 else None
    if uid_number is None or gid_number is None:
        return None
    home = options.get("h", f"/home/{name}")
    if "H" not in options and not _make_home(tree, home, uid_number, gid_number, mtime):
        return None
    unnamed = "" if compare_versions("apk", busybox, NO_FINGER) >= 0 else "Linux User,,,"
    gecos = options.get("g", unnamed)
    row = f"{name}:x:{uid}:{group[2]}:{gecos}:{home}:{options.get('s', '/sbin/nologin')}"
    _update(tree, "passwd", lambda lines: [*lines, row])
    if tree.lookup("etc/shadow") is not None:
        _update(tree, "shadow", lambda lines: [*lines, f"{name}:!:{mtime // 86_400}:0:99999:7:::"])
    _add_member(tree, name, group[0])
    return Effect(changed=True)


def _make_home(tree: TreeBuilder, home: str, uid: int, gid: int, mtime: int) -> bool:
    """Make a home, or take a directory that is there for one; one with a skeleton isn't modelled."""
    present = tree.lookup(home)
    above = tree.lookup(home.rstrip("/").rpartition("/")[0])
    if present is None and (above is None or tree.iterdir("etc/skel")):
        return False
    entry = present or Entry(type=FileType.DIRECTORY, mode=0o755, mtime=mtime)
    if entry.type is not FileType.DIRECTORY:
        return False
    tree.put(tree.resolve(home), replace(entry, mode=0o2755, uid=uid, gid=gid, implicit=False))
    return True


def _join(tree: TreeBuilder, user: str, group: str) -> Effect | None:
    row = next((row for row in _rows(tree, "group") if row[0] == group), None)
    if row is None or not any(other[0] == user for other in _rows(tree, "passwd")):
        return Effect(succeeds=False)
    if len(row) != 4:
        return None
    if user in row[3].split(","):
        return Effect()
    _add_member(tree, user, group)
    return Effect(changed=True)


def _add_member(tree: TreeBuilder, user: str, group: str) -> None:
    def add(lines: list[str]) -> list[str]:
        return [
            f"{line}{'' if line.endswith(':') else ','}{user}" if line.split(":")[0] == group else line
            for line in lines
        ]

    _update(tree, "group", add)


def _update(tree: TreeBuilder, name: str, change: Callable[[list[str]], list[str]]) -> None:
    """Write a file anew, and keep the old one beside it."""
    path = f"etc/{name}"
    entry = tree.lookup(path)
    content = tree.read(path, limit=MAX_FILE)
    assert entry is not None
    tree.put(f"{path}-", replace(entry, link_group=""), content)
    lines = change(split_lines(content.decode("utf-8", "surrogateescape")))
    tree.put(
        path,
        replace(entry, sha256="", link_group=""),
        "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"),
    )


def _rows(tree: TreeBuilder, name: str) -> list[list[str]]:
    try:
        text = tree.read(f"etc/{name}", limit=MAX_FILE).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return [line.split(":") for line in split_lines(text)]


def _free(taken: set[str]) -> str | None:
    return next((str(number) for number in range(FIRST, LAST + 1) if str(number) not in taken), None)


def _is_plain(tree: TreeBuilder, name: str) -> bool:
    """Tell whether a file is there that can be replaced as busybox does; it can do without `shadow`."""
    entry = tree.lookup(f"etc/{name}", follow=False)
    return name == "shadow" if entry is None else entry.type is FileType.FILE


def _is_word(text: str) -> bool:
    return not any(char in text for char in ":\n\0")
