# SPDX-License-Identifier: Apache-2.0
"""From a request to a plan: which filesystems there are, and what is mounted where, in which order."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from copacetic.worker.inside.cgroup import ControlGroup
from copacetic.worker.inside.channel import Message
from copacetic.worker.inside.process import SPARE_PROCESSES
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.seccomp import OwnerRule, Sockets, build_filter, machine
from copacetic.worker.inside.stack import join
from copacetic.worker.inside.views import View, open_view

__all__ = ["Attachment", "RunPlan", "make_plan"]

_OLD_SOCKETS = frozenset({"386", "s390x"})
"""Architectures whose C library may make sockets through `socketcall` only."""
_HOSTS = "127.0.0.1\tlocalhost {host}\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@dataclass(slots=True, kw_only=True, eq=False)
class Attachment:
    """Something mounted in the root: proc, dev, bind, tmpfs or file."""

    kind: str
    dest: str
    directory: bool
    home: View | None = None
    """What has the stub; None when that is made in a mount that is empty at first."""
    place: str = ""
    """The stub's canonical path in there."""
    readonly: bool = False
    data: bytes = b""
    mode: int = 0
    size: int = 0
    view: View | None = None
    """Of a bind."""
    selector: str = ""
    """A canonical path in there."""

    @property
    def source(self) -> str:
        """Of a bind: the path that is bound."""
        assert self.view is not None
        return os.path.join(self.view.path, self.selector).rstrip("/")


@dataclass(slots=True, kw_only=True)
class RunPlan:
    """All that a sandbox needs to know. The root is the first of the views."""

    folder: str
    views: list[View]
    attachments: list[Attachment] = field(default_factory=list)
    process: Mapping[str, Any]
    limits: Mapping[str, int]
    group: ControlGroup
    network: bool
    system_calls: bytes | None
    set_groups: bool
    listens: bool
    """Whether the filter asks somebody about changes of owners."""
    output: int


def make_plan(request: Message, output: int) -> RunPlan:
    """Make the views and the stubs. Raises `RefusalError` where the image is in the way of a mount."""
    folder = request["folder"]
    root = open_view(request, os.path.join(folder, "0"), request["root"]["layers"], request["root"]["upper"])
    owners: OwnerRule = "change"
    if request["single"]:
        owners = "ask" if request["isolated"] else "ignore"
    plan = RunPlan(
        folder=folder,
        views=[root],
        process=request["process"],
        limits=request["limits"],
        group=_make_group(request["limits"]),
        network=request["network"],
        system_calls=build_filter(machine(), owners=owners, sockets=_sockets(request)),
        set_groups=not request["single"],
        listens=owners == "ask",
        output=output,
    )
    for one in (*_own_attachments(request), *sorted(_attachments(plan, request), key=lambda one: one.dest)):
        _make_stub(plan, one)
        plan.attachments.append(one)
    return plan


def _make_group(limits: Mapping[str, int]) -> ControlGroup:
    """A little more than is allowed: it is when there is too much that a run is ended and says why."""
    processes, memory = limits["processes"] + SPARE_PROCESSES, limits["memory"] * 5 // 4
    return ControlGroup({"pids.max": processes, "memory.max": memory, "memory.oom.group": 1})


def _sockets(request: Message) -> Sockets:
    if not request["network"]:
        return "internet" if request["isolated"] else "local"
    return "old ways" if request["architecture"] in _OLD_SOCKETS else "internet"


def _own_attachments(request: Message) -> list[Attachment]:
    """What every sandbox has, unless the graph mounts something there."""
    taken = {mount["dest"] for mount in request["mounts"]}
    texts = {"/etc/hosts": _HOSTS.format(host=request["process"]["hostname"]).encode()}
    if request["network"] and request["resolv"]:
        texts["/etc/resolv.conf"] = request["resolv"].encode()
    return [
        *(Attachment(kind=name, dest=f"/{name}", directory=True) for name in ("proc", "dev")),
        *(
            Attachment(kind="file", dest=dest, directory=False, data=data, mode=0o644, readonly=True)
            for dest, data in texts.items()
            if dest not in taken
        ),
    ]


def _attachments(plan: RunPlan, request: Message) -> list[Attachment]:
    made = []
    for mount in request["mounts"]:
        kind, dest = mount["kind"], mount["dest"]
        one = Attachment(kind=kind, dest=dest, directory=kind in {"bind", "tmpfs"})
        if kind == "bind":
            _select(plan, request, mount, one)
        elif kind == "tmpfs":
            one.size = mount["size"] or request["limits"]["memory"]
        else:
            one.kind, one.data, one.mode, one.readonly = "file", base64.b64decode(mount["data"]), mount["mode"], True
        made.append(one)
    return made


def _select(plan: RunPlan, request: Message, mount: Mapping[str, Any], one: Attachment) -> None:
    folder = os.path.join(plan.folder, str(len(plan.views)))
    one.view = open_view(request, folder, mount["layers"], mount["upper"])
    plan.views.append(one.view)
    one.readonly = mount["upper"] is None
    one.selector = one.view.resolve(mount["selector"])
    if not one.selector:
        return
    info = one.view.find(one.selector)
    if info is None:
        raise RefusalError("missing", f"{mount['selector']!r}, which is to be mounted at {one.dest}, is not there")
    if not stat.S_ISDIR(info.st_mode) and not stat.S_ISREG(info.st_mode):
        raise RefusalError("missing", f"{mount['selector']!r} is neither a file nor a directory")
    one.directory = stat.S_ISDIR(info.st_mode)


def _make_stub(plan: RunPlan, one: Attachment) -> None:
    """Make it in whatever is going to be at the place: the root, a bound filesystem, or nothing yet."""
    if one.dest.startswith("/proc/") or (one.dest in {"/proc", "/dev"} and one.kind not in {"proc", "dev"}):
        raise RefusalError("missing", f"nothing can be mounted at {one.dest}: that is the sandbox's own")
    outer = [other for other in plan.attachments if one.dest.startswith(f"{other.dest}/")]
    home, inside = plan.views[0], one.dest
    if outer:
        innermost = max(outer, key=lambda other: len(other.dest))
        if innermost.view is None:
            return
        home, inside = innermost.view, join(innermost.selector, one.dest[len(innermost.dest) :].strip("/"))
    one.home = home
    one.place = home.make_stub(inside, directory=one.directory, real=one.kind in {"proc", "dev"})
