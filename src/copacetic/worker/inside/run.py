# SPDX-License-Identifier: Apache-2.0
"""
Runs one program in an image, and makes layers of what it changed.

Views and stubs are prepared, then the sandbox is started (`sandbox.py` where there are namespaces, `chrooted.py` where
there are none); after its end, or a word to stop, what came out is tidied up.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.guard import TURN, Guard, prefer_for_memory
from copacetic.worker.inside.plan import make_plan
from copacetic.worker.inside.refusal import RefusalError

__all__ = ["run"]


class Sandbox(Protocol):
    """Something that runs."""

    def kill(self) -> None:
        """End it with all that it has started."""
        ...

    def finish(self) -> Mapping[int, Sequence[str]]:
        """
        Wait for the end of everything, and return, by the position of a view, the paths in it that don't belong to it.
        """
        ...


def run(channel: Channel, request: Message, fds: Sequence[int]) -> Message:
    """
    The request is described in `worker.execution`. Returns `exit`, or `signal`, or `killed` when told to stop, or
    when it `exceeded` a limit.

    Raises `RefusalError`: `process` when the program can't be started, `image` when the image is in the way.
    """
    prefer_for_memory()
    plan = make_plan(request, fds[0])
    reader, writer = os.pipe()
    sandbox: Sandbox
    if request["isolated"]:
        from copacetic.worker.inside.sandbox import NamespaceSandbox

        sandbox = NamespaceSandbox(plan, writer)
    else:
        from copacetic.worker.inside.chrooted import ChrootSandbox

        sandbox = ChrootSandbox(plan, writer)
    os.close(writer)
    os.close(plan.output)
    guard = Guard(request["limits"], [view.written for view in plan.views])
    told, exceeded = _wait(channel, reader, guard)
    if told or exceeded:
        sandbox.kill()
    said = _read_status(reader)
    left_out = sandbox.finish()
    plan.group.remove()
    if told or exceeded:
        return {"killed": True, "exceeded": exceeded}
    for message in said:
        if "refused" in message:
            raise RefusalError(message["refused"], message["reason"])
    if not said:
        return {"killed": False, "signal": int(signal.SIGKILL)}
    if said[-1].get("exit") in request["valid"]:
        for position, view in enumerate(plan.views):
            view.finish(left_out.get(position, ()))
    return {"killed": False, **said[-1]}


def _wait(channel: Channel, reader: int, guard: Guard) -> tuple[bool, str]:
    """
    Wait until the sandbox says something, which is the last it does.

    It is to be killed when the first of the answer is true, for somebody said so, or the second says what it exceeds.
    """
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(channel.socket.fileno(), select.POLLIN)
    while True:
        events = dict(poll.poll(TURN * 1_000))
        if reader in events:
            return False, ""
        if channel.socket.fileno() in events:
            return True, ""
        complaint = guard.complaint()
        if complaint:
            return False, complaint


def _read_status(reader: int) -> list[dict[str, Any]]:
    data = bytearray()
    while part := os.read(reader, 65536):
        data += part
    os.close(reader)
    return [json.loads(line) for line in bytes(data).split(b"\n") if line]
