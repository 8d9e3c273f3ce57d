# SPDX-License-Identifier: Apache-2.0
"""
A run that ends before it is done: Ctrl-C, SIGTERM, or `--timeout`.

The signal raises in the main thread, so everything is unwound and cleaned up. A thread that waits for a network can't
be interrupted, and unwinding waits for it: after a moment the process ends without it. What is written is complete
at any time, and what remains is temporary.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copacetic.console import Console

GRACE = 2.0
"""Seconds for unwinding."""

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_TIMEOUT = 1
_SIGNALS = {signal.SIGINT: (EXIT_INTERRUPTED, "interrupted"), signal.SIGTERM: (EXIT_TERMINATED, "terminated")}

told: Console | None = None
"""The latest run's, who knows what is there already."""


class EndedEarlyError(BaseException):
    """No `Exception`: nothing between here and `main` may take it for a failure of its own."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message

    def show(self) -> None:
        """Say why, and what became of the run; on a terminal, below what progress has drawn."""
        live = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{live}{self.message}; {tell_fate()}\n")
        sys.stderr.flush()


def tell_fate() -> str:
    """Say what became of the result."""
    if told is None or not told.destination:
        return "nothing was published"
    return f"{told.reference} was published" if told.reference else f"{told.destination} may have been published"


@contextmanager
def watch_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `EndedEarlyError` while the context lasts."""
    with restore_signals():
        for number in _SIGNALS:
            signal.signal(number, _end)
        yield


@contextmanager
def restore_signals() -> Iterator[None]:
    """Undo what is done to signals and their timer while the context lasts: a process may have more to do than this."""
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, *_SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                stop_timer()
                signal.signal(number, handler)


def start_timer(seconds: float) -> None:
    """End the run when its time is over."""

    def expired(_number: int, _frame: FrameType | None) -> None:
        _raise(EndedEarlyError(EXIT_TIMEOUT, f"error: not finished after {seconds:.0f} s (see --timeout)"))

    signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def stop_timer() -> None:
    """No more hurry, or no more need to end by force."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _end(number: int, _frame: FrameType | None) -> None:
    _raise(EndedEarlyError(*_SIGNALS[signal.Signals(number)]))


def _raise(ending: EndedEarlyError) -> None:
    """Raise, and see to it that this has an end, too; a second signal doesn't wait for that."""

    def force(_number: int, _frame: FrameType | None) -> None:
        from copacetic.cache import remove_temporary_folders

        ending.show()
        remove_temporary_folders()
        os._exit(ending.exit_code)

    for number in (signal.SIGALRM, *_SIGNALS):
        signal.signal(number, force)
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    raise ending
