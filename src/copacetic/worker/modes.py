# SPDX-License-Identifier: Apache-2.0
"""
The ways to get a sandbox on this machine, the cheapest first, and why one of them is refused.

Each is tried by doing it; nothing is concluded from a version or a name.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct

__all__ = ["Mode", "ModeRefusedError", "candidates", "explain_refusals"]

_TITLES = {
    "root": "root",
    "all": "user namespace",
    "ids": "user namespace",
    "single": "user namespace, one user",
    "chroot": "chroot",
}
_MEANINGS = {
    "root": "namespaces for mounts, processes, IPC, host name and network",
    "all": "root in a user namespace with all ids, and namespaces for everything else",
    "ids": "a user namespace with this user's subordinate ids, and namespaces for everything else",
    "single": "a user namespace with one id, and namespaces for everything else; owners are recorded, not set",
    "chroot": "a chroot and nothing more: no namespaces, no /proc, only the container around it keeps a program in",
}


class Mode(Struct, frozen=True, kw_only=True):
    """`name` as in `inside.enter`."""

    name: str
    uid: int
    gid: int
    uids: tuple[int, int] = (0, 0)
    """First and count of the subordinate ids."""
    gids: tuple[int, int] = (0, 0)

    @property
    def title(self) -> str:
        return _TITLES[self.name]

    @property
    def meaning(self) -> str:
        return _MEANINGS[self.name]

    @property
    def isolated(self) -> bool:
        return self.name != "chroot"

    @property
    def single(self) -> bool:
        """Only one user exists: owners can't be set."""
        return self.name == "single"

    @property
    def has_groups(self) -> bool:
        return self.name != "single"

    @property
    def disk_key(self) -> str:
        """Layer directories on disk can be used by modes with the same key: their owners mean the same."""
        if self.name == "ids":
            return f"ids-{self.uid}-{self.gid}-{self.uids[0]}-{self.gids[0]}"
        return f"single-{self.uid}" if self.single else "root"

    def map_ids(self, pid: int) -> None:
        """Give a process that has unshared its user namespace its ids. Raises `ModeRefusedError`."""
        if self.name == "ids":
            for program, own, (first, count) in (
                ("newuidmap", self.uid, self.uids),
                ("newgidmap", self.gid, self.gids),
            ):
                self._run(program, str(pid), "0", str(own), "1", "1", str(first), str(count))
            return
        if self.single:
            self._write(pid, "setgroups", "deny")
            self._write(pid, "uid_map", f"0 {self.uid} 1")
            self._write(pid, "gid_map", f"0 {self.gid} 1")
            return
        for name in ("uid_map", "gid_map"):
            rows = [line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines()]
            self._write(pid, name, "\n".join(f"{first} {first} {count}" for first, _, count in rows))

    def _write(self, pid: int, name: str, text: str) -> None:
        try:
            # One write: the kernel takes no second one.
            handle = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(handle, text.encode() + b"\n")
            finally:
                os.close(handle)
        except OSError as error:
            raise ModeRefusedError(self, name, error.errno or 0, error.strerror or str(error)) from error

    def _run(self, *command: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603 - names and numbers of ours
                command, capture_output=True, text=True, check=False, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModeRefusedError(self, command[0], 0, str(error)) from error
        if done.returncode:
            raise ModeRefusedError(self, command[0], 0, done.stderr.strip() or f"exit code {done.returncode}")


class ModeRefusedError(Exception):
    """A mode doesn't work here: which step failed, how."""

    def __init__(self, mode: Mode | str, step: str, number: int, reason: str, fix: str = "") -> None:
        self.mode = mode if isinstance(mode, str) else mode.name
        self.step = step
        self.number = number
        self.reason = reason
        self.fix = fix
        super().__init__(f"{step}: {reason}")


def candidates() -> tuple[list[Mode], list[ModeRefusedError]]:
    """Return the modes that may work for this process's user, and those that needn't be tried, with the reason."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return [Mode(name=name, uid=uid, gid=gid) for name in ("root", "all", "chroot")], []
    single = Mode(name="single", uid=uid, gid=gid)
    refused: list[ModeRefusedError] = []
    for program in ("newuidmap", "newgidmap"):
        if shutil.which(program) is None:
            fix = "install newuidmap and newgidmap: the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora)"
            refused.append(ModeRefusedError("ids", program, 0, f"{program} is not installed", fix))
            return [single], refused
    user = _user_name(uid)
    uids, gids = _subordinate("/etc/subuid", user, uid), _subordinate("/etc/subgid", user, uid)
    if uids is None or gids is None:
        file = "/etc/subuid" if uids is None else "/etc/subgid"
        fix = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user or uid}"
        refused.append(ModeRefusedError("ids", file, 0, f"{file} gives {user or uid} no subordinate ids", fix))
        return [single], refused
    return [Mode(name="ids", uid=uid, gid=gid, uids=uids, gids=gids), single], refused


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _subordinate(path: str, user: str, uid: int) -> tuple[int, int] | None:
    """Return the largest range that a file of subid(5) gives a user, at most 65536 ids of it."""
    try:
        rows = [line.strip().split(":") for line in Path(path).read_text(errors="replace").splitlines()]
    except OSError:
        return None
    found = [
        (int(row[1]), int(row[2]))
        for row in rows
        if len(row) == 3 and row[0] in {user, str(uid)} and row[0] and row[1].isdigit() and row[2].isdigit()
    ]
    usable = [(first, min(count, 65_536)) for first, count in found if count > 0]
    return max(usable, key=lambda one: one[1], default=None)


def explain_refusals(refused: list[ModeRefusedError]) -> tuple[str, str]:
    """Say in one line what is missing for a sandbox here, and what to do about it."""
    fixes = [_fix(one) for one in refused]
    reasons = "; ".join(f"{_TITLES[one.mode]}: {one.step}: {one.reason}" for one in refused)
    wanted = [fix for fix in dict.fromkeys(fixes) if fix]
    hint = "; or ".join([*wanted, "use BuildKit (--addr), or --strategy unpack, which needs no sandbox"])
    return f"no sandbox can be made here ({reasons})", hint


def _fix(one: ModeRefusedError) -> str:
    """What the user can do about one refusal, as far as the kernel's settings tell."""
    if one.fix:
        return one.fix
    if one.mode == "chroot":
        return "give the container the capabilities CHOWN, DAC_OVERRIDE, FOWNER, MKNOD, SETGID, SETUID and SYS_CHROOT"
    if one.mode == "root":
        return ""
    if _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor forbids it: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    if _setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting("/proc/sys/user/max_user_namespaces") == "0" or one.number in {errno.ENOSPC, errno.EUSERS}:
        return "allow more user namespaces: sudo sysctl -w user.max_user_namespaces=15000"
    if _has_filter():
        return "the container's seccomp profile forbids it: run it with another profile, or as root with a chroot"
    return ""


def _setting(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _has_filter() -> bool:
    return any(line.split() == ["Seccomp:", "2"] for line in _setting("/proc/self/status").splitlines())
