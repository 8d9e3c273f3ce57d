# SPDX-License-Identifier: Apache-2.0
"""
The sandbox with namespaces: a process that is the first of its PID namespace, and then the image's program.

The first process mounts everything in a mount namespace of its own and turns the image into its root before it
touches any place in it, so that the kernel follows the image's links inside the image. When it ends, the kernel ends
every process in the namespace, and the mounts are gone with the last of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import NoReturn

from copacetic.worker.inside import linux
from copacetic.worker.inside.channel import receive_files
from copacetic.worker.inside.confine import forbid_imports
from copacetic.worker.inside.ownership import OwnerKeeper
from copacetic.worker.inside.plan import Attachment, Plan
from copacetic.worker.inside.process import execute, find_identity, make_working_directory
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.report import report_failure, report_status

__all__ = ["NamespaceSandbox"]

_QUIET = linux.MS_NOSUID | linux.MS_NODEV
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
          "ptmx": "pts/ptmx"}  # fmt: skip
_READONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi")
_HIDDEN = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/kmsg")
_SHM = 64 * 1024 * 1024
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class NamespaceSandbox:
    """Starts at once; `status` is the pipe that gets the program's end."""

    def __init__(self, plan: Plan, status: int) -> None:
        for view in plan.views:
            view.prepare()
            view.begin()
        linux.unshare(linux.CLONE_NEWPID)
        self._pid = os.fork()
        if self._pid == 0:
            _first_process(plan, status)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def finish(self) -> Mapping[int, Sequence[str]]:
        """Nothing that is mounted is in a view, so nothing is left out."""
        os.waitpid(self._pid, 0)
        return {}


def _first_process(plan: Plan, status: int) -> NoReturn:
    try:
        linux.die_with_parent(signal.SIGKILL)
        extra = 0 if plan.network else linux.CLONE_NEWNET
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | extra)
        linux.set_hostname(plan.process["hostname"])
        if not plan.network:
            _raise_loopback()
        _build_root(plan)
        identity = find_identity(plan.process["user"])
        make_working_directory(plan.process["cwd"], identity)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            execute(
                plan.process,
                identity,
                output=plan.output,
                keep=linux.DOCKER_CAPABILITIES,
                install_filter=lambda: _install_filter(plan, theirs),
                set_groups=plan.set_groups,
            )
        theirs.close()
        report_status(status, child, _owner_keeper(ours) if plan.listens else None)
    except BaseException as error:  # noqa: BLE001 - it goes to the user, and the process ends
        report_failure(status, error)
    finally:
        os._exit(0)


def _install_filter(plan: Plan, channel: socket.socket) -> None:
    if plan.system_calls is None:
        return
    if not plan.listens:
        linux.filter_system_calls(plan.system_calls)
        return
    listener = linux.filter_and_listen(plan.system_calls)
    socket.send_fds(channel, [b"!"], [listener])
    os.close(listener)


def _owner_keeper(channel: socket.socket) -> OwnerKeeper | None:
    """Take the program's listener; there is none when it could not be started."""
    _, fds = receive_files(channel, 1, 1)
    return OwnerKeeper(fds[0]) if fds else None


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _build_root(plan: Plan) -> None:
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_SLAVE)
    folder = os.open(plan.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    devices = os.open("/dev", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(folder)
    os.makedirs("files")
    linux.mount("tmpfs", "files", "tmpfs", _QUIET, "mode=0700")
    for position, one in enumerate(plan.attachments):
        if one.kind == "file":
            _write_file(f"files/{position}", one)
    for view in plan.views:
        view.mount()
    forbid_imports()
    os.chdir(plan.views[0].path)
    linux.pivot_root(".", ".")
    for position, one in enumerate(plan.attachments):
        if one.home is None:
            _make_place(one)
        if one.kind == "proc":
            _mount_proc(processes)
        elif one.kind == "dev":
            _mount_dev(devices)
        elif one.kind == "tmpfs":
            linux.mount("tmpfs", one.dest, "tmpfs", _QUIET, f"size={one.size}" if one.size else None)
        else:
            os.chdir(folder)
            _bind(_source(plan, position, one), one)
    os.chdir(outside)
    linux.unmount(".")
    os.chdir("/")


def _write_file(path: str, one: Attachment) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(handle, one.data)
    os.chmod(handle, one.mode)
    os.close(handle)


def _source(plan: Plan, position: int, one: Attachment) -> str:
    """A path from the run's folder, outside of the new root."""
    if one.kind == "file":
        return f"files/{position}"
    if one.view is None:
        return os.path.relpath(one.source, plan.folder)
    inside = f"/{one.selector}" if one.selector else ""
    return f"{os.path.relpath(one.view.path, plan.folder)}{inside}"


def _make_place(one: Attachment) -> None:
    """In a mount of this run's there is no stub yet; the kernel keeps us inside the new root."""
    if one.directory:
        os.makedirs(one.dest, 0o755, exist_ok=True)
        return
    os.makedirs(os.path.dirname(one.dest), 0o755, exist_ok=True)
    os.close(os.open(one.dest, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _bind(source: str, one: Attachment) -> None:
    try:
        linux.mount(source, one.dest, None, linux.MS_BIND)
        flags = os.statvfs(one.dest).f_flag
        # What the disk itself forbids can't be taken back in a user namespace, and has to be said again.
        kept = (flags & os.ST_NOEXEC and linux.MS_NOEXEC) | (flags & os.ST_RDONLY and linux.MS_RDONLY)
        readonly = linux.MS_RDONLY if one.readonly else 0
        linux.mount(None, one.dest, None, linux.MS_REMOUNT | linux.MS_BIND | _QUIET | kept | readonly)
    except OSError as error:
        raise RefusalError("image", f"can't mount at {one.dest}: {error.strerror}") from error


def _mount_proc(outer: int) -> None:
    try:
        linux.mount("proc", "/proc", "proc", _QUIET | linux.MS_NOEXEC)
    except PermissionError:
        # Inside a container whose own /proc has parts hidden, the kernel gives out no fresh one.
        os.chdir(outer)
        linux.mount(".", "/proc", None, linux.MS_BIND | linux.MS_REC)
    for path in _READONLY:
        if os.path.exists(path):
            linux.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
            flags = linux.MS_RDONLY | _QUIET | linux.MS_NOEXEC
            linux.mount(None, path, None, linux.MS_REMOUNT | linux.MS_BIND | flags)


def _mount_dev(outer: int) -> None:
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, "mode=0755,size=65536k")
    for name in _NODES:
        try:
            info = os.stat(name, dir_fd=outer, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISCHR(info.st_mode):
            continue
        os.close(os.open(f"/dev/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        os.chdir(outer)
        linux.mount(name, f"/dev/{name}", None, linux.MS_BIND)
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"/dev/{name}")
    linux.mount("tmpfs", "/dev/shm", "tmpfs", _QUIET | linux.MS_NOEXEC, f"mode=1777,size={_SHM}")
    try:
        linux.mount(
            "devpts", "/dev/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"
        )
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EINVAL, errno.ENODEV}:
            raise
    for path in _HIDDEN:
        if os.path.exists(path):
            linux.mount("/dev/null", path, None, linux.MS_BIND)
