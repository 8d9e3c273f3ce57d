# SPDX-License-Identifier: Apache-2.0
"""
What a command does to an image's tree, as a value: `Effect` is the closed set of all that `engine` can carry out.

Paths are the image's own, with or without the slash in front; none has a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from copacetic.scripts.live import LiveImage
from copacetic.scripts.options import parse_options
from copacetic.scripts.shell.expansion import has_pattern
from copacetic.updates import PackageKey

Paths = tuple[str, ...]


class Done(Struct, frozen=True):
    """What a command came to."""

    succeeds: bool | None = True
    """None where it isn't known, or doesn't follow from the image."""
    changed: bool = False


class RemoveFiles(Struct, frozen=True):
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


class CopyFiles(Struct, frozen=True):
    """`cp`, where there is nothing to copy, or nothing but files onto themselves."""

    sources: Paths
    target: str


class Touch(Struct, frozen=True):
    """`touch`, which makes empty files."""

    paths: Paths


class AppendLines(Struct, frozen=True):
    """Lines go to the end of a file that doesn't have them; there is one."""

    path: str
    lines: tuple[str, ...]


class ChangeOwner(Struct, frozen=True):
    """`chown` and `chgrp` by names; an empty one stays as it is. `login`: the group is the user's own."""

    paths: Paths
    user: str
    group: str
    follow: bool = True
    login: bool = False


class ChangeMode(Struct, frozen=True):
    """`chmod`."""

    paths: Paths
    mode: int


class KeepAttributes(Struct, frozen=True):
    """New files get the mode, owner and attributes that the image's have, as the same script set them."""

    paths: Paths


class SetAlternative(Struct, frozen=True):
    """`update-alternatives`, by all its words."""

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


class UpdateTrust(Struct, frozen=True):
    """`update-ca-trust` of the Red Hat family."""


class DropBytecode(Struct, frozen=True):
    """Byte code of Python modules that change goes."""


class UpdateLibraryCache(Struct, frozen=True):
    """`ldconfig`; with `-X` it makes no links."""

    links: bool = True


class LinkApplets(Struct, frozen=True):
    """`busybox --install -s`, and the same of busybox-extras."""

    binary: str


class PruneApplets(Struct, frozen=True):
    """Links to busybox that stand for no applet go."""


FileEffect = (
    RemoveFiles
    | RemoveFolders
    | MakeFolders
    | MakeLink
    | Move
    | CopyFiles
    | Touch
    | AppendLines
    | ChangeOwner
    | ChangeMode
)
DerivedEffect = (
    SetAlternative | DropBytecode | ChooseCertificates | UpdateCertificates | UpdateTrust | UpdateLibraryCache
)
AppletEffect = LinkApplets | PruneApplets
Effect = FileEffect | KeepAttributes | MakeAccount | DerivedEffect | AppletEffect
Reading = Effect | Done | None
"""What a command does, or what it comes to where that is nothing; None where neither is known."""
Due = tuple[PackageKey, Effect]
"""A package, and what has to be done instead of running its scripts."""


def read_file_effect(live: LiveImage, words: Sequence[str]) -> FileEffect | None:
    """
    Return what a command of `FILE_COMMANDS` does; None for a way to use it that isn't modelled. busybox's and
    coreutils' own rules are the same for what is.
    """
    name = words[0].rpartition("/")[2]
    parsed = parse_options(words[1:], FILE_COMMANDS[name])
    operands = [word for word in parsed.operands if word is not None] if parsed is not None else []
    led = name in ("chgrp", "chmod", "chown", "ln")
    first, paths = operands[0] if led and len(operands) > 1 else "", live.spell_all(operands[led:])
    if parsed is None or paths is None:
        return None
    has = parsed.has
    match name:
        case "rm" if "" not in paths:
            return RemoveFiles(paths, recursive=has("-r", "-R"), force=has("-f"))
        case "rmdir":
            return RemoveFolders(paths)
        case "mkdir" if _MODE.fullmatch(mode := (parsed.values("-m") or ["755"])[-1] or ""):
            return MakeFolders(paths, int(mode, 8), parents=has("-p"))
        case "touch" if "-" not in operands:
            return Touch(() if has("-c", "--no-create") else paths)
        case "ln" if has("-s") and len(operands) == 2 and not any(map(has_pattern, operands)):
            return MakeLink(paths[0], first, force=has("-f"), plain=has("-n"))
        case "mv" if len(paths) == 2:
            return Move(*paths)
        case "cp" if len(operands) > 1 and not has_pattern(operands[-1]):
            return CopyFiles(paths[:-1], paths[-1])
        case "chmod" if _MODE.fullmatch(first):
            return ChangeMode(paths, int(first, 8))
        case "chown" | "chgrp" if owner := _OWNER.fullmatch(first if name == "chown" else f":{first}"):
            user, group = owner[1], owner[3] or ""
            known = first and f"{user}{group}" and not user.isdigit() and not group.isdigit()
            login = bool(owner[2]) and not group
            return ChangeOwner(paths, user, group, follow=not has("-h"), login=login) if known else None
    return None


_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"([A-Za-z0-9_-]*)(:([A-Za-z0-9_-]*))?")
"""What a dot means depends on the program, its version, and the names that there are."""
FILE_COMMANDS: Mapping[str, str] = {
    "chgrp": "-h -f",
    "chmod": "-f",
    "chown": "-h -f",
    "cp": "-a -p -r -R -d -f",
    "ln": "-s -f -n",
    "mkdir": "-p -m=",
    "mv": "-f",
    "rm": "-r -R -f",
    "rmdir": "",
    "touch": "-c --no-create",
}
"""Commands that change files, with the options that are modelled."""
