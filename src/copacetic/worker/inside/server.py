# SPDX-License-Identifier: Apache-2.0
"""
The helper process itself: enters what the mode says, and forks a process for each job that comes.

Where there is a PID namespace, it is that namespace's first process: when it ends, everything in it does. It ends when
the other end of its socket is closed, whatever became of the process that had it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from copacetic.worker.inside import linux
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.enter import StepError, enter
from copacetic.worker.inside.processes import kill_descendants
from copacetic.worker.inside.refusal import RefusalError

__all__ = ["main"]

_JOBS = frozenset({"unpack", "run", "files", "difference", "pack", "read", "remove"})
_AFTERWARDS = {"unpack": ("files", "run", "sandbox"), "run": ("pack", "read")}
Job = Callable[[Channel, Message, Sequence[int]], Message]


def main() -> NoReturn:
    """Arguments: the number of the socket, and the configuration as JSON."""
    channel = Channel(socket.socket(fileno=int(sys.argv[2])))
    config = json.loads(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    try:
        facts = enter(channel, config)
    except StepError as error:
        channel.send({"failed": error.step, "errno": error.errno or 0, "reason": error.strerror or str(error)})
        os._exit(1)
    channel.send({"ready": facts})
    linux.forbid_tracing()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        _serve(channel)
    finally:
        if config["mode"] == "chroot":
            kill_descendants()
        os._exit(0)


def _serve(channel: Channel) -> None:
    while (received := channel.receive()) is not None:
        message, fds = received
        name = message["job"]
        if name not in _JOBS:
            raise ValueError(name)
        # Imported here, it is there for every later job, too.
        job: Job = import_module(f"copacetic.worker.inside.{name}").run
        if _fork(fds[0]) == 0:
            channel.close()
            _work(Channel(socket.socket(fileno=fds[0])), job)
        for handle in fds:
            os.close(handle)
        for following in _AFTERWARDS.get(name, ()):
            # There is time for what is going to be needed next.
            import_module(f"copacetic.worker.inside.{following}")


def _fork(handle: int) -> int:
    """A machine with no process to spare is no reason to be gone: that job is refused, on its own channel."""
    try:
        return os.fork()
    except OSError as error:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(handle)) as end:
            received = Channel(end).receive()
            for one in received[1] if received else ():
                os.close(one)
            Channel(end).send(_describe_refusal(error))
        return -1


def _describe_refusal(error: OSError) -> Message:
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno == errno.ENAMETOOLONG:
        reason = f"a path of {len(os.fsencode(where))} bytes, longer than this system can open: {where[:100]!r}…"
        return {"refused": "image", "reason": reason}
    shown = f" ({where[:200]})" if where else ""
    return {"refused": "storage", "reason": f"{error.strerror or error}{shown}", "errno": error.errno or 0}


def _describe_failure() -> str:
    try:
        return traceback.format_exc(limit=-6)
    except ImportError:  # in a process that may not import any more
        return repr(sys.exc_info()[1])


def _work(channel: Channel, job: Job) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    linux.die_with_parent(signal.SIGKILL)
    reply: Message
    try:
        received = channel.receive()
        if received is None:
            os._exit(0)
        reply = {"done": job(channel, *received)}
    except RefusalError as error:
        reply = {"refused": error.kind, "reason": str(error)}
    except OSError as error:
        reply = _describe_refusal(error)
    except MemoryError:
        reply = {"refused": "storage", "reason": "out of memory"}
    except BaseException:  # noqa: BLE001 - whatever it is, the other side has to hear of it
        reply = {"broken": _describe_failure()}
    try:
        channel.send(reply)
    finally:
        os._exit(0)
