# SPDX-License-Identifier: Apache-2.0
"""
The last steps before an image's program runs, inside its root: who it is, where it is, and what it may do.

Everything read here is the image's, so it is read within limits and only from regular files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from copacetic.worker.inside import linux
from copacetic.worker.inside.refusal import RefusalError

__all__ = ["SPARE_PROCESSES", "Identity", "execute", "find_identity", "make_working_directory"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ACCOUNTS_LIMIT = 4 * 1024 * 1024
_MAX_ID = (1 << 32) - 2
_MAX_GROUPS = 65_536
_HIGHEST_FILE = 1024
SPARE_PROCESSES = 256
_FILES = (1024, 524_288)
"""Soft and hard limit: some old package managers close every descriptor there could be."""


class Identity:
    """A user as the kernel knows one."""

    def __init__(self, uid: int, gid: int, groups: Sequence[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = tuple(groups)
        self.home = home


def find_identity(user: str) -> Identity:
    """
    Read `USER[:GROUP]`, names or numbers, with the image's own accounts; "" is root.

    Raises `RefusalError` for a name that the image doesn't know.
    """
    name, colon, group = user.partition(":")
    row = _find(_rows("/etc/passwd", 7), name or "0", "user")
    uid, gid, home = (int(row[2]), int(row[3]), row[5]) if row else (int(name or "0"), 0, "/")
    groups: list[int] = []
    if colon:
        found = _find(_rows("/etc/group", 4), group, "group")
        gid = int(found[2]) if found else int(group)
    elif row:
        member = (g for g in _rows("/etc/group", 4) if row[0] in g[3].split(","))
        groups = [int(g[2]) for g in member][:_MAX_GROUPS]
    if uid > _MAX_ID or gid > _MAX_ID:
        raise RefusalError("missing", f"the user {user!r} is out of range")
    return Identity(uid, gid, groups, home or "/")


def _find(rows: Sequence[Sequence[str]], name: str, what: str) -> Sequence[str] | None:
    """By name first, then by number; a number needs no row."""
    for row in rows:
        if row[0] == name:
            return row
    if not (name.isascii() and name.isdigit()):
        raise RefusalError("missing", f"the image has no {what} {name[:100]!r}")
    return next((row for row in rows if int(row[2]) == int(name)), None)


def _rows(path: str, fields: int) -> list[list[str]]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _ACCOUNTS_LIMIT:
            return []
        text = os.read(handle, _ACCOUNTS_LIMIT).decode("utf-8", "surrogateescape")
    finally:
        os.close(handle)
    rows = [line.split(":") for line in text.split("\n")]
    numbers = (2, 3) if fields == 7 else (2,)
    return [row for row in rows if len(row) == fields and all(_is_number(row[n]) for n in numbers)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def make_working_directory(path: str, identity: Identity) -> None:
    """Make it where it is missing, as builders do; it is then the user's."""
    try:
        os.stat(path)
    except FileNotFoundError:
        os.makedirs(path, 0o755, exist_ok=True)
        os.chown(path, identity.uid, identity.gid)


def execute(
    process: Mapping[str, Any],
    identity: Identity,
    *,
    limits: Mapping[str, int],
    output: int,
    keep: frozenset[int],
    install_filter: Callable[[], None],
    set_groups: bool,
) -> NoReturn:
    """
    Become the program; `output` gets what it says, `keep` are its capabilities. `install_filter` comes last.

    Raises `RefusalError` when there is no such program, or it can't be executed.
    """
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY) if os.path.exists("/dev/null") else os.pipe()[0]
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.umask(0o022)
    _close_on_execution()
    _limit_resources(limits)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    if set_groups:
        os.setgroups(identity.groups)
    linux.limit_capabilities(keep)
    try:
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise RefusalError("unsupported", f"there is no user {identity.uid}:{identity.gid} in this sandbox") from error
    try:
        os.chdir(process["cwd"])
    except OSError as error:
        raise RefusalError("missing", f"the working directory {process['cwd']!r}: {error.strerror}") from error
    # Where there is no namespace that ends with us, at least the program itself does. A change of ids clears it.
    linux.die_with_parent(signal.SIGKILL)
    linux.forbid_new_privileges()
    install_filter()
    environment = dict(process["env"])
    environment.setdefault("PATH", _PATH)
    environment.setdefault("HOME", identity.home)
    _execute(process["args"], environment)


def _close_on_execution() -> None:
    """Nothing of ours reaches the program: what is open here leads out of the sandbox."""
    for handle in range(3, _HIGHEST_FILE):
        with contextlib.suppress(OSError):
            os.set_inheritable(handle, False)


def _limit_resources(limits: Mapping[str, int]) -> None:
    """A little more processes than are allowed: it is when there are too many that a run is ended and says why."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NPROC, limits["processes"] + SPARE_PROCESSES)
    _lower(resource.RLIMIT_FSIZE, limits["disk"])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _FILES[1] if hard == resource.RLIM_INFINITY else min(hard, _FILES[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES[0], most), most))


def _lower(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    least = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(what, (least, least))


def _execute(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    program = arguments[0]
    places = [program] if "/" in program else [f"{p or '.'}/{program}" for p in environment["PATH"].split(":")]
    denied: OSError | None = None
    for place in places:
        try:
            os.execve(place, list(arguments), environment)  # noqa: S606 - the point of it
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.isfile(place):
                # A script's interpreter, or the loader of a dynamic program.
                denied = OSError(errno.ENOENT, "its interpreter is not there")
            elif "/" in program and os.path.islink(place):
                denied = OSError(errno.ENOENT, f"it is a link to {os.readlink(place)[:200]}, which is not there")
            else:
                denied = denied or (None if "/" not in program else error)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                raise RefusalError("process", f"{program!r} can't be executed: {error.strerror}") from error
            denied = error
    if denied is None or denied.strerror == os.strerror(errno.ENOENT):
        raise RefusalError("process", f"{program!r} is not in the image")
    raise RefusalError("process", f"{program!r} can't be executed: {denied.strerror}")
