# SPDX-License-Identifier: Apache-2.0
"""
Whose a folder is: nobody but its owner (and root) may have put there what is believed, or may put another in its place.

A folder that many may write to and that is sticky, as /tmp is, lets nobody exchange what belongs to others.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from copacetic.errors import StorageError

__all__ = ["check_folder", "is_own_file", "make_folder"]

_HINT = "name a folder of your own with --cache-dir, or go without one with --no-cache"


def make_folder(path: Path) -> None:
    """Make a folder and those above it that aren't there, for nobody but this user. Raises `OSError`."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError as error:
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error


def check_folder(path: Path) -> None:
    """Raise `StorageError` when somebody else could write to a folder, or to one above it. Raises `OSError`."""
    absolute = path.absolute()
    chains = {absolute, Path(os.path.realpath(absolute))}
    for chain in chains:
        for folder in (chain, *chain.parents):
            problem = _problem(os.lstat(folder), is_top=folder == chain)
            if problem:
                where = f"the cache folder {path}" if folder == chain else f"{folder}, above the cache folder {path},"
                raise StorageError(f"{where} {problem}: what is in it can't be believed", hint=_HINT)


def is_own_file(path: Path) -> bool:
    """Tell whether there is a regular file (and no link) that only its owner writes to. Raises `OSError`."""
    info = os.lstat(path)
    return stat.S_ISREG(info.st_mode) and not _problem(info, is_top=True)


def _problem(info: os.stat_result, *, is_top: bool) -> str:
    """Say what is wrong with an owner or a mode; members of root's group count as root."""
    if info.st_uid not in {0, os.geteuid()} and not _is_unmapped(info.st_uid):
        return f"belongs to somebody else (user {info.st_uid})"
    if stat.S_ISLNK(info.st_mode) or (info.st_mode & stat.S_ISVTX and not is_top):
        return ""
    others = info.st_mode & (stat.S_IWOTH if info.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP)
    return f"may be written to by others (mode {stat.S_IMODE(info.st_mode):04o})" if others else ""


def _is_unmapped(user: int) -> bool:
    """Tell whether a number stands for users outside of this user namespace; whoever made that is above us anyway."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
        rows = [[int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except (OSError, ValueError):
        return False
    return user == overflow and not any(first <= user < first + count for first, _, count in rows)
