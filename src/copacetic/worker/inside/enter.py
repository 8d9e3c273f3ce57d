# SPDX-License-Identifier: Apache-2.0
"""
Entering the namespaces of a mode, step by step, so that a refusal names the step.

| mode | user namespace | other namespaces |
|---|---|---|
| root | none | mount, PID |
| all | every id of this one, mapped to itself | mount, PID |
| ids | the user as root, and the user's subordinate ids | mount, PID |
| single | the user as root, nobody else | mount, PID |
| chroot | none | none |
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from copacetic.worker.inside import linux
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.emulation import register_emulators
from copacetic.worker.inside.remove import remove_tree

__all__ = ["StepError", "enter"]

_OVERLAY_OPTIONS = {
    "trusted": ("index=off,metacopy=off,redirect_dir=off,xino=off,volatile", "index=off,metacopy=off,redirect_dir=off"),
    "user": ("userxattr,index=off,xino=off,volatile", "userxattr,index=off"),
}


class StepError(OSError):
    """The kernel, or somebody on its behalf, refused a step."""

    def __init__(self, step: str, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.step = step


def enter(channel: Channel, config: Mapping[str, Any]) -> Message:
    """
    Do it, and return what was found out. `config` has `mode`, and `folder`, a private one for trying things.

    With a PID namespace, this returns in its first process; the one that was started waits for it. Raises `StepError`.
    """
    os.umask(0o022)
    if config["mode"] == "chroot":
        _step("chroot", lambda: _try_chroot(config["folder"]))
        linux.adopt_orphans()
        return {"overlay": "", "xattr": "user", "emulates": []}
    if config["mode"] != "root":
        _enter_user_namespace(channel)
    _step("unshare(CLONE_NEWNS)", lambda: linux.unshare(linux.CLONE_NEWNS))
    _step("unshare(CLONE_NEWPID)", lambda: linux.unshare(linux.CLONE_NEWPID))
    _step("mount(MS_SLAVE)", lambda: linux.mount(None, "/", None, linux.MS_REC | linux.MS_SLAVE))
    child = os.fork()
    if child:
        channel.close()
        _, status = os.waitpid(child, 0)
        os._exit(0 if status == 0 else 1)
    linux.die_with_parent(signal.SIGKILL)
    with contextlib.suppress(OSError):
        # Of this namespace alone, there is less to look at. Where parts of /proc are hidden, there is none to have.
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    kind = "trusted" if config["mode"] == "root" and _is_initial_user_namespace() else "user"
    overlay, reason = _try_overlay(config["folder"], kind)
    emulated: list[str] = []
    if config["mode"] != "root":
        emulated = register_emulators(os.path.join(config["folder"], "emulators"), config["emulators"])
    return {"overlay": overlay, "xattr": kind, "reason": reason, "emulates": emulated}


def _step(name: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise StepError(name, error.errno or 0, error.strerror or str(error)) from error


def _enter_user_namespace(channel: Channel) -> None:
    _step("unshare(CLONE_NEWUSER)", lambda: linux.unshare(linux.CLONE_NEWUSER))
    channel.send({"map": os.getpid()})
    answer = channel.receive()
    if answer is None:
        os._exit(1)
    # Only now are there ids that this process could have.
    _step("setresgid", lambda: os.setresgid(0, 0, 0))
    _step("setresuid", lambda: os.setresuid(0, 0, 0))
    if answer[0]["groups"]:
        _step("setgroups", lambda: os.setgroups([]))


def _is_initial_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() == ["0", "0", "4294967295"]


def _try_overlay(folder: str, kind: str) -> tuple[str, str]:
    """Return the options with which overlayfs works on this disk, "" and the reason when it doesn't."""
    reason = ""
    for position, options in enumerate(_OVERLAY_OPTIONS[kind]):
        place = os.path.join(folder, f"overlay-{position}")
        for name in ("a/x", "b", "upper", "work", "view"):
            os.makedirs(os.path.join(place, name))
        os.chdir(place)
        try:
            linux.mount("overlay", "view", "overlay", 0, f"lowerdir=a:b,upperdir=upper,workdir=work,{options}")
            try:
                # A directory in place of another needs the attribute that makes it opaque.
                os.rmdir("view/x")
                os.mkdir("view/x")
            finally:
                linux.unmount("view")
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return options, ""
        finally:
            os.chdir("/")
            remove_tree(place)
    return "", reason


def _try_chroot(folder: str) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.chroot(folder)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    number = os.waitstatus_to_exitcode(status)
    if number:
        raise OSError(number, os.strerror(number))
