# SPDX-License-Identifier: Apache-2.0
"""What a sandbox says through its status pipe: one line of JSON, the last thing it does."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from copacetic.worker.inside.refusal import RefusalError

__all__ = ["report", "report_failure", "report_status"]


def report(status: int, message: Mapping[str, Any]) -> None:
    os.write(status, json.dumps(message).encode("ascii") + b"\n")


def report_status(status: int, child: int) -> None:
    """Wait for a child, and for whatever else ends meanwhile, and report how it ended."""
    while True:
        pid, code = os.wait()
        if pid == child:
            break
    if os.WIFSIGNALED(code):
        report(status, {"signal": os.WTERMSIG(code)})
    else:
        report(status, {"exit": os.WEXITSTATUS(code)})


def report_failure(status: int, error: BaseException) -> None:
    """Report why the program was not started."""
    if isinstance(error, RefusalError):
        report(status, {"refused": error.kind, "reason": str(error)})
    elif isinstance(error, OSError):
        report(status, {"refused": "unsupported", "reason": f"{error.strerror or error}"})
    else:
        report(status, {"refused": "unsupported", "reason": f"{type(error).__name__}: {error}"})
