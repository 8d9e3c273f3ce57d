# SPDX-License-Identifier: Apache-2.0
"""
The sandbox with namespaces: a process that is the first of its PID namespace, and then the image's program.

The first process mounts everything in a mount namespace of its own and turns the image into its root before it
touches any place in it, so that the kernel follows the image's links inside the image. When it ends, the kernel ends
every process in the namespace, and the mounts are gone with the last of them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import NoReturn

from copacetic.worker.inside import linux
from copacetic.worker.inside.channel import receive_files
from copacetic.worker.inside.confine import forbid_imports
from copacetic.worker.inside.nodes import NODES, make_node
from copacetic.worker.inside.ownership import OwnerKeeper
from copacetic.worker.inside.plan import Attachment, RunPlan
from copacetic.worker.inside.process import SPARE_PROCESSES, execute, find_identity, make_working_directory
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.report import report_failure, report_status

__all__ = ["NamespaceSandbox"]

_QUIET = linux.MS_NOSUID | linux.MS_NODEV
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
          "ptmx": "pts/ptmx"}  # fmt: skip
_HIDDEN = frozenset({"keys", "latency_stats", "sched_debug", "timer_stats"})
"""Of the kernel's files in /proc that anybody may read; those that only root may are hidden by that."""
_DEV = 1024 * 1024
_SHM = 64 * 1024 * 1024
_OWN_PROCESSES = (6, 14)
"""The Linux from which on this number is each namespace's own. Before, it is the machine's."""
_RESERVED = 300
"""The numbers below are not given out again."""
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class NamespaceSandbox:
    """Starts at once; `status` is the pipe that gets the program's end."""

    def __init__(self, plan: RunPlan, status: int) -> None:
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


def _first_process(plan: RunPlan, status: int) -> NoReturn:
    try:
        linux.die_with_parent(signal.SIGKILL)
        linux.forget_arguments()
        plan.group.enter()
        extra = 0 if plan.network else linux.CLONE_NEWNET
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | extra)
        _bound_namespaces(plan.limits)
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
                limits=plan.limits,
                output=plan.output,
                keep=linux.CAPABILITIES,
                install_filter=lambda: _install_filter(plan, theirs),
                set_groups=plan.set_groups,
            )
        theirs.close()
        report_status(status, child, _owner_keeper(ours) if plan.listens else None)
    except BaseException as error:  # noqa: BLE001 - it goes to the user, and the process ends
        report_failure(status, error)
    finally:
        os._exit(0)


def _bound_namespaces(limits: Mapping[str, int]) -> None:
    """Let the kernel itself bound the processes and the shared memory of these namespaces, as far as it will."""
    bounds = {"shmall": _SHM // os.sysconf("SC_PAGE_SIZE")}
    version = tuple(int(part) for part in re.findall(r"[0-9]+", os.uname().release)[:2])
    if version >= _OWN_PROCESSES:
        bounds["pid_max"] = limits["processes"] + SPARE_PROCESSES + _RESERVED
    for name, value in bounds.items():
        with contextlib.suppress(OSError), open(f"/proc/sys/kernel/{name}", "w", encoding="ascii") as file:
            file.write(str(value))


def _install_filter(plan: RunPlan, channel: socket.socket) -> None:
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


def _build_root(plan: RunPlan) -> None:
    """
    Make the image the root, and attach everything else there.

    What is attached is gathered first, in a tmpfs where /proc will be, and the old root is left altogether before the
    kernel looks at any place in the image: there is nothing but the image that its links could lead to.
    """
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_SLAVE)
    for view in plan.views:
        view.mount()
    root = plan.views[0].path
    stage = os.path.join(root, "proc")
    linux.mount("tmpfs", stage, "tmpfs", _QUIET, "mode=0700")
    for position, one in enumerate(plan.attachments):
        _gather(os.path.join(stage, str(position)), one)
    _gather_proc(stage)
    os.mkdir(os.path.join(stage, "old"))
    forbid_imports()
    os.chdir(root)
    linux.pivot_root(".", "proc/old")
    os.chdir("/")
    linux.unmount("/proc/old")
    for position, one in enumerate(plan.attachments):
        if one.kind != "proc":
            _attach(f"/proc/{position}", one)
    _mount_proc()


def _gather(place: str, one: Attachment) -> None:
    """Put what is going to be attached where it can be reached from the new root."""
    if one.kind in {"proc", "tmpfs"}:
        return
    if one.kind == "file":
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(handle, one.data)
        os.chmod(handle, one.mode)
        os.close(handle)
    elif one.kind == "dev":
        _gather_nodes(place)
    else:
        _bind(one.source, place, directory=one.directory)


def _gather_nodes(place: str) -> None:
    """
    Make the device nodes in a filesystem of their own, the only one in which any could be opened.

    Nothing but the nodes themselves is ever mounted into the root. In a user namespace they have to be this machine's.
    """
    os.mkdir(place)
    linux.mount("tmpfs", place, "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, "mode=0700,size=64k")
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in NODES:
        try:
            make_node(folder, name)
        except PermissionError:
            node = os.path.join("/dev", name)
            if os.path.exists(node) and stat.S_ISCHR(os.lstat(node).st_mode):
                _bind(node, os.path.join(place, name), directory=False)
    os.close(folder)


def _bind(source: str, place: str, *, directory: bool) -> None:
    if directory:
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    linux.mount(source, place, None, linux.MS_BIND)


def _gather_proc(stage: str) -> None:
    """
    Mount /proc while the old one is still in sight: without one in sight, a user namespace gets none.

    Inside a container whose own /proc has parts hidden the kernel gives out no fresh one, only that.
    """
    place = os.path.join(stage, "processes")
    os.mkdir(place)
    try:
        linux.mount("proc", place, "proc", _QUIET | linux.MS_NOEXEC)
    except PermissionError:
        linux.mount("/proc", place, None, linux.MS_BIND | linux.MS_REC)


def _attach(source: str, one: Attachment) -> None:
    try:
        if one.home is None:
            _make_place(one)
        if one.kind == "dev":
            _mount_dev(source)
        elif one.kind == "tmpfs":
            linux.mount("tmpfs", one.dest, "tmpfs", _QUIET, f"size={one.size}" if one.size else None)
        else:
            linux.mount(source, one.dest, None, linux.MS_BIND)
            _restrict(one.dest, _QUIET | (linux.MS_RDONLY if one.readonly else 0))
    except OSError as error:
        raise RefusalError("image", f"can't mount at {one.dest}: {error.strerror}") from error


def _restrict(path: str, flags: int) -> None:
    """What is forbidden already can't be taken back in a user namespace, and has to be said again."""
    present = os.statvfs(path).f_flag & (linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount(None, path, None, linux.MS_REMOUNT | linux.MS_BIND | present | flags)


def _show(source: str, path: str, flags: int) -> None:
    """Mount something that can be read but not changed: not even its mode."""
    linux.mount(source, path, None, linux.MS_BIND)
    _restrict(path, linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NOEXEC | flags)


def _make_place(one: Attachment) -> None:
    """In a mount of this run's there is no stub yet."""
    if one.directory:
        os.makedirs(one.dest, 0o755, exist_ok=True)
        return
    os.makedirs(os.path.dirname(one.dest), 0o755, exist_ok=True)
    os.close(os.open(one.dest, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _mount_dev(nodes: str) -> None:
    linux.mount("tmpfs", "/dev", "tmpfs", _QUIET | linux.MS_NOEXEC, f"mode=0755,size={_DEV}")
    for name in os.listdir(nodes):
        os.close(os.open(f"/dev/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # A device is written to nevertheless: only its inode is on a filesystem.
        _show(f"{nodes}/{name}", f"/dev/{name}", 0)
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"/dev/{name}")
    linux.mount("tmpfs", "/dev/shm", "tmpfs", _QUIET | linux.MS_NOEXEC, f"mode=1777,size={_SHM}")
    try:
        # Terminals are devices, which nobody but the kernel makes here.
        options = "newinstance,ptmxmode=0666,mode=0620"
        linux.mount("devpts", "/dev/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, options)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EINVAL, errno.ENODEV}:
            raise


def _mount_proc() -> None:
    """Take away what was gathered, and put /proc in its place."""
    os.mkdir("/dev/processes")
    linux.mount("/proc/processes", "/dev/processes", None, linux.MS_BIND | linux.MS_REC)
    linux.unmount("/proc")
    linux.mount("/dev/processes", "/proc", None, linux.MS_BIND | linux.MS_REC)
    linux.unmount("/dev/processes")
    os.rmdir("/dev/processes")
    _confine_proc()


def _confine_proc() -> None:
    """
    Let /proc be read only, and nothing at all be read that only root may read outside.

    Even the mode of a file in /proc is the same one for the whole machine.
    """
    nothing = "/dev/nothing"
    os.close(os.open(nothing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    for name in os.listdir("/proc"):
        path = f"/proc/{name}"
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) and (name in _HIDDEN or not mode & stat.S_IROTH):
            _show(nothing, path, linux.MS_NODEV)
    os.unlink(nothing)
    _restrict("/proc", linux.MS_RDONLY | _QUIET | linux.MS_NOEXEC)
