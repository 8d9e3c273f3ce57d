# SPDX-License-Identifier: Apache-2.0
"""
System users and groups, made as Debian's adduser and busybox make them.

Follows adduser(8) for `adduser --system`, `addgroup --system` and `adduser USER GROUP` with the options that packages
use, and busybox for the same with its own options. The day of the last change of password is that of the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import Struct

from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.accounts import AccountFiles
from copacetic.scripts.effects import Done
from copacetic.scripts.options import parse_options
from copacetic.strict import read_digits
from copacetic.version import compare_versions

__all__ = ["add_as_busybox", "add_as_debian", "is_for_debian"]

NOGROUP = "65534"
NEW_STYLE = "3.122"
"""Since this version of adduser, a system user has no home unless it is given, and no password ages."""
PLAIN_GECOS = "3.138"
"""Before this version, the full name is followed by the empty fields of finger."""
NO_FINGER = "1.37"
"""Since this version of busybox a user without a full name has none; before that it is `Linux User,,,`."""
_DEBIAN = (
    "--system --group --no-create-home --quiet --disabled-password --disabled-login --force-badname --home= --shell= "
    "--gecos= --ingroup= --comment="
)
_BUSYBOX: Mapping[str, str] = {"addgroup": "-S -g=", "adduser": "-S -D -H -h= -s= -G= -g= -u="}


class _Call(Struct, frozen=True):
    """A program's words, apart."""

    program: str
    options: Mapping[str, str]
    names: tuple[str, ...]

    @property
    def joins(self) -> bool:
        return self.program == "adduser" and len(self.names) == 2 and "--system" not in self.options


def _parse(words: Sequence[str], grammar: str) -> _Call | None:
    parsed = parse_options(words[1:], grammar)
    if parsed is None:
        return None
    options = {name: value or "" for name, value in parsed.options}
    names = tuple(word or "" for word in parsed.operands)
    if any(char in text for text in (*names, *options.values()) for char in ":\n\0"):
        return None
    return _Call(words[0].rpartition("/")[2], options, names)


# -- Debian's ------------------------------------------------------------------------------------------------


def is_for_debian(words: Sequence[str]) -> bool:
    """Tell whether `add_as_debian` understands a command."""
    return _parse_debian(words) is not None


def _parse_debian(words: Sequence[str]) -> _Call | None:
    call = _parse(words, _DEBIAN)
    if call is None or call.joins:
        return call
    known = call.program in ("adduser", "addgroup") and len(call.names) == 1 and "--system" in call.options
    return call if known else None


def add_as_debian(tree: TreeBuilder, words: Sequence[str], *, adduser: str, mtime: int) -> Done | None:
    """Do what this version of `adduser` or `addgroup` does; None where that isn't modelled."""
    call, files = _parse_debian(words), AccountFiles(tree, mtime)
    if call is None:
        return None
    name = call.names[0]
    if call.joins:
        group = call.names[1]
        if files.find("passwd", name) is None or files.find("group", group) is None:
            return None
        files.add_member("group", group, name)
        files.add_member("gshadow", group, name)
        return Done(changed=True)
    if files.find("group" if call.program == "addgroup" else "passwd", name) is not None:
        return Done()
    made = _add_group(files, name) is not None if call.program == "addgroup" else _add_user(files, call, adduser)
    return Done(changed=True) if made else None


def _add_user(files: AccountFiles, call: _Call, adduser: str) -> bool:
    name, options = call.names[0], call.options
    gid: str | None = NOGROUP
    if "--group" in options:
        gid = _add_group(files, name)
    elif "--ingroup" in options:
        row = files.find("group", options["--ingroup"])
        gid = row[2] if row is not None and row[2].isdecimal() and len(row[2]) < 11 else None
    uid = files.find_number("passwd")
    if gid is None or uid is None:
        return False
    modern = compare_versions("deb", adduser, NEW_STYLE) >= 0
    home = options.get("--home", "/nonexistent" if modern else f"/home/{name}")
    gecos = options.get("--gecos", options.get("--comment", ""))
    if gecos and compare_versions("deb", adduser, PLAIN_GECOS) < 0:
        gecos += ",,,"
    files.append("passwd", name, "x", uid, str(int(gid)), gecos, home, options.get("--shell", "/usr/sbin/nologin"))
    day = files.mtime // 86_400
    files.append("shadow", name, f"!:{day}::::::" if modern else f"*:{day}:0:99999:7:::")
    if home != "/nonexistent" and "--no-create-home" not in options and files.tree.lookup(home) is None:
        entry = Entry(type=FileType.DIRECTORY, mode=0o755, uid=int(uid), gid=int(gid), mtime=files.mtime)
        files.tree.put(home, entry)
    return True


def _add_group(files: AccountFiles, name: str) -> str | None:
    gid = files.find_number("group")
    if gid is not None:
        files.append("group", name, "x", gid, "")
        files.append("gshadow", name, "!::")
    return gid


# -- busybox's -----------------------------------------------------------------------------------------------


def add_as_busybox(tree: TreeBuilder, words: Sequence[str], *, busybox: str, mtime: int) -> Done | None:
    """Do what `addgroup` or `adduser` of this version of busybox does; None for options that aren't modelled."""
    call, files = _parse(words, _BUSYBOX[words[0].rpartition("/")[2]]), AccountFiles(tree, mtime, backups=True)
    if call is None or not all(_is_plain(tree, name) for name in ("group", "passwd", "shadow")):
        return None
    if len(call.names) == 2 and not call.options:
        return _join(files, *call.names)
    if len(call.names) != 1 or "-S" not in call.options or tree.lookup("etc/gshadow") is not None:
        return None
    number = call.options.get("-g" if call.program == "addgroup" else "-u", "")
    if number and not number.isdecimal():
        return None
    if call.program == "adduser":
        return _add_user_as_busybox(files, call, number, busybox)
    gid = files.find_number("group", number)
    if files.find("group", call.names[0]) is not None or gid is None:
        return Done(succeeds=False)
    files.append("group", call.names[0], "x", gid, "")
    return Done(changed=True)


def _add_user_as_busybox(files: AccountFiles, call: _Call, number: str, busybox: str) -> Done | None:
    name, options = call.names[0], call.options
    group, uid = files.find("group", options.get("-G", "nogroup")), files.find_number("passwd", number)
    if files.find("passwd", name) is not None or group is None or uid is None:
        return Done(succeeds=False)
    owner, gid = read_digits(uid, most=10), read_digits(group[2], most=10) if len(group) == 4 else None
    if owner is None or gid is None:
        return None
    home = options.get("-h", f"/home/{name}")
    if "-H" not in options and not _make_home(files, home, owner, gid):
        return None
    unnamed = "" if compare_versions("apk", busybox, NO_FINGER) >= 0 else "Linux User,,,"
    gecos = options.get("-g", unnamed)
    files.append("passwd", name, "x", uid, group[2], gecos, home, options.get("-s", "/sbin/nologin"))
    files.append("shadow", name, f"!:{files.mtime // 86_400}:0:99999:7:::")
    files.add_member("group", group[0], name, again=True)
    return Done(changed=True)


def _make_home(files: AccountFiles, home: str, uid: int, gid: int) -> bool:
    """Make a home, or take a directory that is there for one; one with a skeleton isn't modelled."""
    tree = files.tree
    present = tree.lookup(home)
    above = tree.lookup(home.rstrip("/").rpartition("/")[0])
    if present is None and (above is None or tree.iterdir("etc/skel")):
        return False
    entry = present or Entry(type=FileType.DIRECTORY, mode=0o755, mtime=files.mtime)
    if entry.type is not FileType.DIRECTORY:
        return False
    tree.put(tree.resolve(home), replace(entry, mode=0o2755, uid=uid, gid=gid, implicit=False))
    return True


def _join(files: AccountFiles, user: str, group: str) -> Done | None:
    row = files.find("group", group)
    if row is None or files.find("passwd", user) is None:
        return Done(succeeds=False)
    if len(row) != 4:
        return None
    if user in row[3].split(","):
        return Done()
    files.add_member("group", group, user)
    return Done(changed=True)


def _is_plain(tree: TreeBuilder, name: str) -> bool:
    """Tell whether a file is there that can be replaced as busybox does; it can do without `shadow`."""
    entry = tree.lookup(f"etc/{name}", follow=False)
    return name == "shadow" if entry is None else entry.type is FileType.FILE
