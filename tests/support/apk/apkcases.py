# SPDX-License-Identifier: Apache-2.0
"""
Random packages, their next versions, and what a user does in between: the input of both apk and copacetic.

Everything follows from the seed. The paths are few and the contents fewer, so that protected directories, files that
move between packages, odd modes and edits by the user meet in every combination.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.apk.apks import Apk
from support.deb.debs import Member, directory, file, hardlink, symlink
from support.value.replacing import replace

FOLDERS = (
    *("etc", "etc/app", "etc/app/sub", "etc/.hidden", "etc/init.d", "etc/new", "usr", "usr/share", "usr/share/x"),
    *("opt", "opt/a", "opt/a/b", "lib"),
)
PATTERNS = (
    *("-etc/app/sub", "+opt/a", "@usr/share/x", "!opt/a/b", "+/opt/*/", "lib", "-etc/init.d", "+opt/a/*", "-etc"),
    *("-etc/*", "+usr/s[a-h]are", "/usr/share/"),
)
PASSWD = "root:x:0:0:r:/root:/bin/sh\ndaemon:x:2:2:d:/:/bin/sh\n"
GROUP = "root:x:0:\ndaemon:x:2:\n"


@dataclass(frozen=True, slots=True)
class Case:
    """What is installed first, and what then comes."""

    before: tuple[Apk, ...]
    after: tuple[Apk, ...]
    protected: str
    """Text of a file in `etc/apk/protected_paths.d`, or ""."""


def make_case(rng: random.Random, *, tools: str) -> Case:
    """Make packages; `tools` is the version of the apk that does the work, which then counts as installed."""
    count = rng.randrange(2, 5)
    paths = [f"{folder}/f{number}" for folder in FOLDERS for number in range(3)] + ["top"]
    first = {path: rng.randrange(count) for path in rng.sample(paths, rng.randrange(8, 24))}
    then: dict[str, int] = {}
    for path, owner in first.items():
        chance = rng.random()
        if chance < 0.7:
            then[path] = owner
        elif chance < 0.78:
            then[path] = rng.randrange(count)
    for path in rng.sample(paths, 4):
        then.setdefault(path, rng.randrange(count))
    folders = _FolderModes(rng)
    before = [
        Apk(
            name=f"p{number}",
            files=_files(rng, [path for path in first if first[path] == number], folders),
            xattrs=_xattrs(rng, [path for path in first if first[path] == number]),
            origin="same" if rng.random() < 0.3 else "",
        )
        for number in range(count)
    ]
    after = [_next(rng, number, first, then, folders) for number in range(count)]
    chosen = [apk for apk in after if rng.random() < 0.8] or after[:1]
    protected = "# comment\n" + "\n".join(rng.sample(PATTERNS, 2)) + "\n" if rng.random() < 0.6 else ""
    return Case(
        (*(_clean(apk) for apk in before), Apk(name="apk-tools", version=tools)), tuple(map(_clean, chosen)), protected
    )


def _next(rng: random.Random, number: int, first: dict[str, int], then: dict[str, int], folders: _FolderModes) -> Apk:
    mine = [path for path in then if then[path] == number]
    taken = {f"p{first[path]}" for path in mine if first.get(path, number) != number}
    extra = {"p0"} if rng.random() < 0.2 else set()
    return Apk(
        name=f"p{number}",
        version="2-r0",
        files=_files(rng, mine, folders),
        xattrs=_xattrs(rng, mine),
        replaces=sorted(taken | extra),
        replaces_priority=rng.choice([0, 0, 5]),
    )


def _clean(apk: Apk) -> Apk:
    """Extended attributes only where there is a regular file."""
    plain = {path for path, item in apk.files.items() if item.type == b"0"}
    return replace(apk, xattrs={path: value for path, value in apk.xattrs.items() if path in plain})


class _FolderModes:
    """Mostly the same attributes for a folder in all packages."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._usual: dict[str, Member] = {}

    def choose(self, path: str) -> Member:
        chance = self._rng.random()
        if chance < 0.6:
            return self._usual.setdefault(path, directory())
        if chance < 0.8:
            return directory()
        return _owned(self._rng, directory(self._rng.choice([0o755, 0o700, 0o1777, 0o2755])))


def _owned(rng: random.Random, item: Member) -> Member:
    owners = [(0, 0, "root", "root")] * 5 + [(33, 33, "", ""), (2, 2, "daemon", "daemon"), (77, 77, "daemon", "nosuch")]
    uid, gid, user, group = rng.choice(owners)
    return replace(item, uid=uid, gid=gid, uname=user, gname=group)


def _content(rng: random.Random) -> bytes:
    return b"v%d\n" % rng.randrange(6)


def _files(rng: random.Random, paths: Sequence[str], folders: _FolderModes) -> dict[str, Member]:
    above = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    found: dict[str, Member] = {}
    plain: list[str] = []
    for path in sorted(above | set(paths)):
        chance = rng.random()
        if path in above:
            found[path] = folders.choose(path)
        elif chance < 0.12:
            found[path] = symlink(rng.choice(["target", "/etc/x", "../y"]))
        elif chance < 0.18 and plain:
            found[path] = replace(found[rng.choice(plain)], type=b"1", content=b"", target=rng.choice(plain))
        else:
            found[path] = _owned(rng, file(_content(rng), rng.choice([0o644] * 4 + [0o755, 0o600, 0o4755, 0o640])))
            if "/" in path:  # apk can't link to a file that lies in no directory
                plain.append(path)
    for path, item in found.items():
        if item.type == hardlink("").type:
            # A hard link has the attributes of what it names.
            found[path] = replace(found[item.target], type=b"1", content=b"", target=item.target)
    return found


def _xattrs(rng: random.Random, paths: Sequence[str]) -> dict[str, dict[str, str]]:
    return {path: {"user.test": "x"} for path in paths if rng.random() < 0.05}


def edit(rng: random.Random, case: Case, root: Path) -> None:
    """Do what users do: change, delete and add files, make links of them, change folders."""
    installed = {path for apk in case.before for path, item in apk.files.items() if item.type != b"5"}
    coming = {path for apk in case.after for path, item in apk.files.items() if item.type != b"5"}
    for path in sorted(installed | coming):
        chance, local = rng.random(), root / path
        if not local.parent.is_dir():
            continue
        if path in installed and os.path.lexists(local):
            if chance < 0.15 and not local.is_symlink():
                local.write_bytes(_content(rng))
            elif chance < 0.22:
                local.unlink()
            elif chance < 0.27:
                local.unlink()
                local.symlink_to("target")
        elif chance < 0.5 and not local.is_dir():
            local.write_bytes(_content(rng))
    for folder in FOLDERS:
        _edit_folder(rng, root / folder)


def _edit_folder(rng: random.Random, local: Path) -> None:
    if local.is_dir():
        if rng.random() < 0.15:
            local.chmod(rng.choice([0o700, 0o755, 0o711]))
        if rng.random() < 0.1:
            os.chown(local, 5, 5)
        if rng.random() < 0.1:
            (local / "mine").write_text("m")
