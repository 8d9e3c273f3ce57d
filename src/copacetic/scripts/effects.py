# SPDX-License-Identifier: Apache-2.0
"""
What a command does to an image's tree, as a value: `Effect` is the closed set of all that `engine` can carry out.

Paths are the image's own, with or without the slash in front; none has a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from copacetic.scripts.live import LiveImage
from copacetic.scripts.options import Parsed, parse_options
from copacetic.scripts.shell.expansion import has_pattern

__all__ = [
    "FILE_EFFECTS",
    "AppletEffect",
    "Bundling",
    "ChangeMode",
    "ChangeOwner",
    "ChooseCertificates",
    "Copy",
    "DerivedEffect",
    "Done",
    "DropBytecode",
    "Due",
    "Effect",
    "FileEffect",
    "KeepAttributes",
    "LinkApplets",
    "MakeAccount",
    "MakeFolders",
    "MakeLink",
    "Move",
    "PruneApplets",
    "Remove",
    "RemoveFolders",
    "SetAlternative",
    "Touch",
    "UpdateCertificates",
    "UpdateLibraryCache",
    "read_file_effect",
]

Paths = tuple[str, ...]


class Done(Struct, frozen=True):
    """What a command came to."""

    succeeds: bool | None = True
    """None where it isn't known, or doesn't follow from the image."""
    changed: bool = False


class Remove(Struct, frozen=True):
    """`rm`; directories only where it is recursive, and with force what is missing is no failure."""

    paths: Paths
    recursive: bool = False
    force: bool = False


class RemoveFolders(Struct, frozen=True):
    """`rmdir`, for empty directories; `parents`: with those above that are empty then."""

    paths: Paths
    parents: bool = False


class MakeFolders(Struct, frozen=True):
    """`mkdir`."""

    paths: Paths
    mode: int = 0o755
    parents: bool = False


class MakeLink(Struct, frozen=True):
    """`ln -s`; `plain`: a link to a directory is taken for what it is."""

    path: str
    target: str
    force: bool = False
    plain: bool = False


class Move(Struct, frozen=True):
    """`mv` of one file."""

    source: str
    target: str


class Copy(Struct, frozen=True):
    """`cp`, where there is nothing to copy, or nothing but files onto themselves."""

    sources: Paths
    target: str


class Touch(Struct, frozen=True):
    """`touch`, which makes empty files."""

    paths: Paths


class ChangeOwner(Struct, frozen=True):
    """`chown` and `chgrp` by names; an empty one stays as it is."""

    paths: Paths
    user: str
    group: str
    follow: bool = True


class ChangeMode(Struct, frozen=True):
    """`chmod`."""

    paths: Paths
    mode: int


class KeepAttributes(Struct, frozen=True):
    """New files get the mode, owner and attributes that the image's have, as the same script set them."""

    paths: Paths


class SetAlternative(Struct, frozen=True):
    """`update-alternatives`, by its arguments."""

    words: tuple[str, ...]


class MakeAccount(Struct, frozen=True):
    """`adduser` or `addgroup`, by all its words."""

    words: tuple[str, ...]


class ChooseCertificates(Struct, frozen=True):
    """What the scripts of Debian's ca-certificates do to its configuration."""


class Bundling(Struct, frozen=True):
    """How Alpine's update-ca-certificates of an image makes a bundle."""

    after_each: str
    local: tuple[str, ...]
    """The administrator's certificates in its order."""


class UpdateCertificates(Struct, frozen=True):
    """`update-ca-certificates`: Alpine's with its way to make a bundle, and otherwise Debian's."""

    bundling: Bundling | None = None


class DropBytecode(Struct, frozen=True):
    """Byte code of Python modules that change goes."""


class UpdateLibraryCache(Struct, frozen=True):
    """`ldconfig`."""


class LinkApplets(Struct, frozen=True):
    """`busybox --install -s`, and the same of busybox-extras."""

    binary: str


class PruneApplets(Struct, frozen=True):
    """Links to busybox that stand for no applet go."""


FileEffect = Remove | RemoveFolders | MakeFolders | MakeLink | Move | Copy | Touch | ChangeOwner | ChangeMode
DerivedEffect = SetAlternative | DropBytecode | ChooseCertificates | UpdateCertificates | UpdateLibraryCache
AppletEffect = LinkApplets | PruneApplets
Effect = FileEffect | KeepAttributes | MakeAccount | DerivedEffect | AppletEffect
Due = tuple[str, Effect]
"""A package, and what has to be done instead of running its scripts."""


def read_file_effect(live: LiveImage, words: Sequence[str]) -> FileEffect | None:
    """
    Return what a command does to files; None for a way to use it that isn't modelled. busybox's and coreutils' own
    rules are the same for what is.
    """
    name = words[0].rpartition("/")[2]
    grammar, read = FILE_EFFECTS[name]
    parsed = parse_options(words[1:], grammar)
    return None if parsed is None else read(live, parsed, [word for word in parsed.operands if word is not None])


def _remove(live: LiveImage, parsed: Parsed, operands: list[str]) -> FileEffect | None:
    paths = live.spell_all(operands)
    if paths is None or "" in paths:
        return None
    return Remove(paths, recursive=parsed.has("-r", "-R"), force=parsed.has("-f"))


def _remove_folders(live: LiveImage, _parsed: Parsed, operands: list[str]) -> FileEffect | None:
    paths = live.spell_all(operands)
    return None if paths is None else RemoveFolders(paths)


def _make_folders(live: LiveImage, parsed: Parsed, operands: list[str]) -> FileEffect | None:
    mode, paths = (parsed.values("-m") or ["755"])[-1], live.spell_all(operands)
    if paths is None or mode is None or _MODE.fullmatch(mode) is None:
        return None
    return MakeFolders(paths, int(mode, 8), parents=parsed.has("-p"))


def _make_link(live: LiveImage, parsed: Parsed, operands: list[str]) -> FileEffect | None:
    path = live.spell(operands[1]) if len(operands) == 2 and parsed.has("-s") else None
    if path is None or has_pattern(operands[0]):
        return None
    return MakeLink(path, operands[0], force=parsed.has("-f"), plain=parsed.has("-n"))


def _move(live: LiveImage, _parsed: Parsed, operands: list[str]) -> FileEffect | None:
    paths = live.spell_all(operands)
    return None if paths is None or len(paths) != 2 else Move(*paths)


def _copy(live: LiveImage, _parsed: Parsed, operands: list[str]) -> FileEffect | None:
    paths = live.spell_all(operands[:-1])
    target = live.spell(operands[-1]) if len(operands) > 1 else None
    return None if paths is None or target is None else Copy(paths, target)


def _touch(live: LiveImage, _parsed: Parsed, operands: list[str]) -> FileEffect | None:
    paths = live.spell_all(operands) if "-" not in operands else None
    return None if paths is None else Touch(paths)


def _change_owner(live: LiveImage, parsed: Parsed, operands: list[str]) -> FileEffect | None:
    owner = _OWNER.fullmatch(operands[0]) if len(operands) > 1 else None
    return None if owner is None else _give(live, parsed, operands, owner[1], owner[2] or "")


def _change_group(live: LiveImage, parsed: Parsed, operands: list[str]) -> FileEffect | None:
    return _give(live, parsed, operands, "", operands[0]) if len(operands) > 1 else None


def _give(live: LiveImage, parsed: Parsed, operands: list[str], user: str, group: str) -> FileEffect | None:
    paths = live.spell_all(operands[1:])
    if paths is None or user.isdigit() or group.isdigit():
        return None
    return ChangeOwner(paths, user, group, follow=not parsed.has("-h"))


def _change_mode(live: LiveImage, _parsed: Parsed, operands: list[str]) -> FileEffect | None:
    paths = live.spell_all(operands[1:])
    if len(operands) < 2 or paths is None or _MODE.fullmatch(operands[0]) is None:
        return None
    return ChangeMode(paths, int(operands[0], 8))


_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"([A-Za-z0-9._-]*)(?:[:.]([A-Za-z0-9._-]*))?")
FILE_EFFECTS: Mapping[str, tuple[str, Callable[[LiveImage, Parsed, list[str]], FileEffect | None]]] = {
    "chgrp": ("-h -f", _change_group),
    "chmod": ("-f", _change_mode),
    "chown": ("-h -f", _change_owner),
    "cp": ("-a -p -r -R -d -f", _copy),
    "ln": ("-s -f -n", _make_link),
    "mkdir": ("-p -m=", _make_folders),
    "mv": ("-f", _move),
    "rm": ("-r -R -f", _remove),
    "rmdir": ("", _remove_folders),
    "touch": ("", _touch),
}
"""Commands, with the options that are modelled."""
