# SPDX-License-Identifier: Apache-2.0
"""
What simple commands do to files, done in the tree instead.

Each takes its words and returns whether it would succeed and whether anything is different afterwards, or None for a
way to use it that isn't modelled. busybox's and coreutils' own rules are the same for what is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from copacetic.errors import ImageError, PackageError
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.accounts import Accounts
from copacetic.scripts.shell.expansion import has_pattern
from copacetic.unpack.apk.live import LiveImage

__all__ = ["EFFECTS", "Effect", "do_command"]

_SET_GID = 0o2000
MAX_MOVED = 256 * 1024 * 1024
_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"([A-Za-z0-9._-]*)(?:[:.]([A-Za-z0-9._-]*))?")


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command came to."""

    succeeds: bool | None = True
    """None where it isn't known, or doesn't follow from the image."""
    changed: bool = False


def do_command(live: LiveImage, words: Sequence[str], *, mtime: int) -> Effect | None:
    """Do what a command does, if that is modelled."""
    effect = EFFECTS.get(words[0].rpartition("/")[2])
    if effect is None:
        return None
    try:
        return effect(live, list(words[1:]), mtime)
    except (ImageError, PackageError):
        return None


def _split(words: Sequence[str], allowed: str) -> tuple[str, list[str]] | None:
    """Return the one-letter options and the operands; None for other options."""
    letters, operands = "", list[str]()
    for index, word in enumerate(words):
        if word == "--":
            operands += words[index + 1 :]
            break
        if word.startswith("-") and len(word) > 1:
            letters += word[1:]
        else:
            operands.append(word)
    return (letters, operands) if set(letters) <= set(allowed) else None


def _paths(live: LiveImage, operands: Sequence[str]) -> list[str] | None:
    """Return operands as paths of the tree, with patterns expanded; None when one isn't of the image."""
    found: list[str] = []
    for operand in operands:
        matches = live.find_paths(operand) if has_pattern(operand) else (operand,)
        if matches is None:
            return None
        for match in matches or (operand,):  # a pattern that matches nothing stands for itself
            plain = live.spell_literal(match)
            if plain is None:
                return None
            found.append(plain)
    return found


# -- files ---------------------------------------------------------------------------------------------------


def _rm(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    parsed = _split(words, "rRf")
    if parsed is None:
        return None
    letters, operands = parsed
    paths = _paths(live, operands)
    if paths is None or "" in paths:
        return None
    recursive, succeeds, changed = bool({"r", "R"} & set(letters)), True, False
    for path in paths:
        entry = live.tree.lookup(path, follow=False)
        if entry is None:
            succeeds = succeeds and "f" in letters
        elif entry.type is FileType.DIRECTORY and not recursive:
            succeeds = False
        else:
            _remove_all(live.tree, path)
            changed = True
    return Effect(succeeds, changed)


def _remove_all(tree: TreeBuilder, path: str) -> None:
    entry = tree.lookup(path, follow=False)
    if entry is not None and entry.type is FileType.DIRECTORY:
        for name in tree.iterdir(path):
            _remove_all(tree, f"{path}/{name}")
    tree.remove(path)


def _is_directory(tree: TreeBuilder, path: str) -> bool:
    entry = tree.lookup(path)
    return entry is not None and entry.type is FileType.DIRECTORY


def _rmdir(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    paths = _paths(live, words)
    if paths is None or any(word.startswith("-") for word in words):
        return None
    results = []
    for path in paths:
        entry = live.tree.lookup(path, follow=False)
        is_directory = entry is not None and entry.type is FileType.DIRECTORY
        results.append(is_directory and live.tree.remove(path))
    return Effect(all(results), any(results))


def _mkdir(live: LiveImage, words: list[str], mtime: int) -> Effect | None:
    mode = 0o755
    if len(words) > 1 and words[0] == "-m" and _MODE.fullmatch(words[1]):
        mode, words = int(words[1], 8), words[2:]
    parsed = _split(words, "p")
    paths = _paths(live, parsed[1]) if parsed is not None else None
    if parsed is None or paths is None:
        return None
    succeeds, changed = True, False
    for path in paths:
        entry = live.tree.lookup(path)
        if entry is not None:
            succeeds = succeeds and "p" in parsed[0] and entry.type is FileType.DIRECTORY
            continue
        if live.tree.lookup(path, follow=False) is not None or not _has_room(live.tree, path, deep="p" in parsed[0]):
            succeeds = False
            continue
        _make(live.tree, path, Entry(type=FileType.DIRECTORY, mode=mode, mtime=mtime))
        changed = True
    return Effect(succeeds, changed)


def _make(tree: TreeBuilder, path: str, entry: Entry, content: bytes | None = None) -> None:
    """Put something new of root's, after the directories above; in a set-gid one it gets that group."""
    canonical = tree.resolve(path, follow=entry.type is not FileType.SYMLINK)
    above = canonical.rpartition("/")[0]
    parent = tree.lookup(above)
    if parent is None and above:
        _make(tree, above, Entry(type=FileType.DIRECTORY, mode=0o755, mtime=entry.mtime))
        parent = tree.lookup(above)
    if parent is not None and parent.mode & _SET_GID:
        bits = _SET_GID if entry.type is FileType.DIRECTORY else 0
        entry = replace(entry, gid=parent.gid, mode=entry.mode | bits)
    tree.put(canonical, entry, content)


def _has_room(tree: TreeBuilder, path: str, *, deep: bool) -> bool:
    """Tell whether a directory can be made: what is above is one, or (`deep`) can be made as well."""
    above = path.rpartition("/")[0]
    entry = tree.lookup(above)
    if entry is not None:
        return entry.type is FileType.DIRECTORY
    return deep and tree.lookup(above, follow=False) is None and _has_room(tree, above, deep=True)


def _ln(live: LiveImage, words: list[str], mtime: int) -> Effect | None:
    parsed = _split(words, "sfn")
    if parsed is None or "s" not in parsed[0] or len(parsed[1]) != 2:
        return None
    letters, (target, name) = parsed
    path = live.spell(name)
    if path is None or has_pattern(target):
        return None
    present = live.tree.lookup(path, follow=False)
    into = live.tree.lookup(path)
    if into is not None and into.type is FileType.DIRECTORY and not _is_link(present, letters):
        path = f"{path}/{target.rstrip('/').rpartition('/')[2]}".lstrip("/")
        present = live.tree.lookup(path, follow=False)
    if present is not None and ("f" not in letters or present.type is FileType.DIRECTORY):
        return Effect(succeeds=False)
    if not _is_directory(live.tree, path.rpartition("/")[0]):
        return Effect(succeeds=False)
    same = present is not None and present.type is FileType.SYMLINK and present.target == target
    if not same:
        _make(live.tree, path, Entry(type=FileType.SYMLINK, mode=0o777, target=target, mtime=mtime))
    return Effect(changed=not same)


def _is_link(present: Entry | None, letters: str) -> bool:
    """Tell whether `-n` takes a link to a directory for what it is."""
    return "n" in letters and present is not None and present.type is FileType.SYMLINK


def _mv(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    parsed = _split(words, "f")
    paths = _paths(live, parsed[1]) if parsed is not None else None
    if paths is None or len(paths) != 2:
        return None
    source, target = paths
    entry = live.tree.lookup(source, follow=False)
    if entry is None:
        return Effect(succeeds=False)
    if entry.type not in (FileType.FILE, FileType.SYMLINK) or entry.link_group:
        return None
    into = live.tree.lookup(target)
    if into is not None and into.type is FileType.DIRECTORY:
        target = f"{target}/{source.rpartition('/')[2]}"
    if not _is_directory(live.tree, target.rpartition("/")[0]):
        return Effect(succeeds=False)
    try:
        content = live.tree.read(source, limit=MAX_MOVED) if entry.type is FileType.FILE else None
    except FileNotFoundError:
        return None
    source, target = (live.tree.resolve(path, follow=False) for path in (source, target))
    if source == target:
        return Effect(None)  # busybox calls that success, coreutils doesn't
    live.tree.remove(source)
    live.tree.put(target, replace(entry, implicit=False), content)
    return Effect(changed=True)


def _cp(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    """Only where there is nothing to copy, or nothing but files onto themselves."""
    parsed = _split(words, "aprRdf")
    if parsed is None or len(parsed[1]) < 2:
        return None
    *sources, target = parsed[1]
    paths, into = _paths(live, sources), live.spell(target)
    if paths is None or into is None:
        return None
    there = [path for path in paths if live.tree.lookup(path, follow=False) is not None]
    folder = live.tree.resolve(into)
    if any(live.tree.resolve(path.rpartition("/")[0]) != folder for path in there):
        return None
    return Effect(succeeds=False)


def _touch(live: LiveImage, words: list[str], mtime: int) -> Effect | None:
    paths = _paths(live, words)
    if paths is None or any(word.startswith("-") for word in words):
        return None
    succeeds, changed = True, False
    for path in paths:
        if live.tree.lookup(path) is not None:
            continue
        if not _is_directory(live.tree, live.tree.resolve(path).rpartition("/")[0]):
            succeeds = False
            continue
        _make(live.tree, path, Entry(type=FileType.FILE, mode=0o644, mtime=mtime), b"")
        changed = True
    return Effect(succeeds, changed)


# -- attributes ----------------------------------------------------------------------------------------------


def _chown(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    parsed = _split(words, "hf")
    if parsed is None or len(parsed[1]) < 2:
        return None
    match = _OWNER.fullmatch(parsed[1][0])
    if match is None or (match[1] and match[1].isdigit()):
        return None
    return _give(live, match[1], match[2] or "", parsed[1][1:], follow="h" not in parsed[0])


def _chgrp(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    parsed = _split(words, "hf")
    if parsed is None or len(parsed[1]) < 2 or parsed[1][0].isdigit():
        return None
    return _give(live, "", parsed[1][0], parsed[1][1:], follow="h" not in parsed[0])


def _give(live: LiveImage, user: str, group: str, operands: Sequence[str], *, follow: bool) -> Effect | None:
    """Change owners; names that the image doesn't have make the command fail before it does anything."""
    paths = _paths(live, operands)
    if paths is None:
        return None
    uid, gid = Accounts(live.tree).owner(user, -1, group, -1)
    if (user and uid < 0) or (group and gid < 0):
        return Effect(succeeds=False)

    def change(entry: Entry) -> Entry:
        owned = replace(entry, uid=uid if user else entry.uid, gid=gid if group else entry.gid)
        return owned if entry.type is not FileType.FILE else _without_privileges(owned)

    return _alter(live, paths, change, follow=follow)


def _without_privileges(entry: Entry) -> Entry:
    """Take away what chown(2) takes from a file, even where the owner stays."""
    mode = entry.mode & (~0o6000 if entry.mode & 0o010 else ~0o4000)
    return replace(entry, mode=mode, xattrs={k: v for k, v in entry.xattrs.items() if k != "security.capability"})


def _chmod(live: LiveImage, words: list[str], _mtime: int) -> Effect | None:
    parsed = _split(words, "f")
    if parsed is None or len(parsed[1]) < 2 or _MODE.fullmatch(parsed[1][0]) is None:
        return None
    paths = _paths(live, parsed[1][1:])
    mode = int(parsed[1][0], 8)
    return None if paths is None else _alter(live, paths, lambda entry: replace(entry, mode=mode), follow=True)


def _alter(live: LiveImage, paths: Sequence[str], change: Callable[[Entry], Entry], *, follow: bool) -> Effect | None:
    """Give other attributes to files; one whose bytes aren't at hand can't be changed."""
    succeeds, changed = True, False
    for path in paths:
        entry = live.tree.lookup(path, follow=follow)
        if entry is None:
            succeeds = False
            continue
        new = change(entry)
        if new == entry:
            continue
        if not _rewrite(live.tree, live.tree.resolve(path, follow=follow), new):
            return None
        changed = True
    return Effect(succeeds, changed)


def _rewrite(tree: TreeBuilder, path: str, entry: Entry) -> bool:
    if tree.holds(path):
        tree.change(path, entry)
        return True
    if entry.link_group:
        return False
    try:
        content = tree.read(path, limit=MAX_MOVED) if entry.type is FileType.FILE else None
    except FileNotFoundError:
        return False
    tree.put(path, replace(entry, implicit=False), content)
    return True


EFFECTS: Mapping[str, Callable[[LiveImage, list[str], int], Effect | None]] = {
    "chgrp": _chgrp,
    "chmod": _chmod,
    "chown": _chown,
    "cp": _cp,
    "ln": _ln,
    "mkdir": _mkdir,
    "mv": _mv,
    "rm": _rm,
    "rmdir": _rmdir,
    "touch": _touch,
}
