# SPDX-License-Identifier: Apache-2.0
"""What a sandbox says through its status pipe: one line of JSON, the last thing it does."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Mapping
from typing import Any

from copacetic.worker.inside.ownership import OwnerKeeper
from copacetic.worker.inside.refusal import RefusalError

__all__ = ["report", "report_failure", "report_status"]


def report(status: int, message: Mapping[str, Any]) -> None:
    os.write(status, json.dumps(message).encode("ascii") + b"\n")


def report_status(status: int, child: int, keeper: OwnerKeeper | None = None) -> None:
    """
    Wait for a child, and for whatever else ends meanwhile, and report how it ended.

    Until then `keeper` answers. No thread does: the C library would look for what ends one in the image.
    """
    code = _wait(child) if keeper is None else _wait_and_answer(child, keeper)
    if os.WIFSIGNALED(code):
        report(status, {"signal": os.WTERMSIG(code)})
    else:
        report(status, {"exit": os.WEXITSTATUS(code)})


def _wait(child: int) -> int:
    while True:
        pid, code = os.wait()
        if pid == child:
            return code


def _wait_and_answer(child: int, keeper: OwnerKeeper) -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(keeper.listener, select.POLLIN)
    while True:
        # A child that has ended before the handler was there is found here, too.
        while True:
            try:
                pid, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == child:
                return code
            if pid == 0:
                break
        for handle, event in poll.poll():
            if handle == reader:
                os.read(reader, 4096)
            elif event & select.POLLIN:
                keeper.answer()
            else:
                poll.unregister(handle)


def report_failure(status: int, error: BaseException) -> None:
    """Report why the program was not started."""
    if isinstance(error, RefusalError):
        report(status, {"refused": error.kind, "reason": str(error)})
    elif isinstance(error, OSError):
        report(status, {"refused": "unsupported", "reason": f"{error.strerror or error}"})
    else:
        report(status, {"refused": "unsupported", "reason": f"{type(error).__name__}: {error}"})
