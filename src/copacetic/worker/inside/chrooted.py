# SPDX-License-Identifier: Apache-2.0
"""
The sandbox without namespaces, for root in a container that may neither mount nor unshare: a chroot.

What would be mounted is moved into the copied root, and moved out again. There is no /proc. Processes are found as
descendants of this one. The program can't leave the root (it gets no CAP_SYS_CHROOT), and yet it runs as root beside
everything else in the container: nothing but the container itself keeps it in.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from copacetic.worker.inside import linux
from copacetic.worker.inside.confine import forbid_imports
from copacetic.worker.inside.nodes import NODES, make_node
from copacetic.worker.inside.plan import Attachment, RunPlan
from copacetic.worker.inside.process import execute, find_identity, make_working_directory
from copacetic.worker.inside.processes import kill_descendants
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.remove import remove_at
from copacetic.worker.inside.report import report_failure, report_status
from copacetic.worker.inside.stack import Stack

__all__ = ["ChrootSandbox"]

_CAPABILITIES = linux.CAPABILITIES - {linux.CAP_SYS_CHROOT}


class ChrootSandbox:
    """Starts at once; `status` is the pipe that gets the program's end."""

    def __init__(self, plan: RunPlan, status: int) -> None:
        self._plan = plan
        self._moved: list[tuple[str, str]] = []
        self._root = os.open(plan.views[0].path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for view in plan.views:
            view.prepare()
        for view in plan.views[1:]:
            view.begin()
        for position, one in enumerate(plan.attachments):
            self._place(position, one)
        plan.views[0].begin()
        linux.adopt_orphans()
        if os.fork() == 0:
            _supervise(plan, status)

    def kill(self) -> None:
        kill_descendants()

    def finish(self) -> Mapping[int, Sequence[str]]:
        """End what is left, and move out what was moved in, the innermost first."""
        kill_descendants()
        for inside, outside in reversed(self._moved):
            try:
                os.rename(inside, outside)
            except FileNotFoundError as error:
                raise RefusalError("process", f"the program took away what was mounted at {inside}") from error
        left_out: dict[int, list[str]] = {}
        for one in self._plan.attachments:
            if one.home is not None:
                left_out.setdefault(self._plan.views.index(one.home), []).append(one.place)
        return left_out

    def _place(self, position: int, one: Attachment) -> None:
        if one.kind == "proc":
            return
        path = Stack((self._root,)).resolve(one.dest)
        target = os.path.join(self._plan.views[0].path, path)
        if one.kind == "dev":
            self._make_nodes(path)
            return
        if os.path.lexists(target):
            # It is seen again in the image, whose own layers nobody touches.
            aside = os.path.join(self._plan.folder, "aside")
            os.makedirs(aside, exist_ok=True)
            os.rename(target, os.path.join(aside, str(position)))
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if one.kind == "tmpfs":
            os.mkdir(target)
            os.chmod(target, 0o1777)  # noqa: S103 - as a tmpfs is
        elif one.kind == "file":
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.write(handle, one.data)
            os.chmod(handle, one.mode)
            os.close(handle)
        else:
            os.rename(one.source, target)
            self._moved.append((target, one.source))

    def _make_nodes(self, folder: str) -> None:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
        for name in NODES:
            remove_at(handle, name)
            make_node(handle, name)
        os.close(handle)


def _install_filter(plan: RunPlan) -> None:
    if plan.system_calls is not None:
        linux.filter_system_calls(plan.system_calls)


def _supervise(plan: RunPlan, status: int) -> NoReturn:
    try:
        linux.die_with_parent(signal.SIGKILL)
        plan.group.enter()
        forbid_imports()
        os.chroot(plan.views[0].path)
        os.chdir("/")
        identity = find_identity(plan.process["user"])
        make_working_directory(plan.process["cwd"], identity)
        child = os.fork()
        if child == 0:
            execute(
                plan.process,
                identity,
                limits=plan.limits,
                output=plan.output,
                keep=_CAPABILITIES,
                install_filter=lambda: _install_filter(plan),
                set_groups=plan.set_groups,
            )
        report_status(status, child)
    except BaseException as error:  # noqa: BLE001 - it goes to the user, and the process ends
        report_failure(status, error)
    finally:
        os._exit(0)
