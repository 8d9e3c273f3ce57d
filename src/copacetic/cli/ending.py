# SPDX-License-Identifier: Apache-2.0
"""
A run that ends before it is done: Ctrl-C, SIGTERM, or `--timeout`.

The signal raises in the main thread, so everything is unwound and cleaned up. A thread that waits for a network can't
be interrupted, and unwinding waits for it: after a moment the process ends without it. What is written is complete
at any time, and what remains is temporary.

The exit code is the first signal's, whenever one comes: this is imported before anything that takes time, and what
Python does after the last of our lines is covered, too.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # see `copacetic`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType
    from typing import NoReturn

    from copacetic.console import Console

GRACE = 2.0
"""Seconds for unwinding."""

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_TIMEOUT = 1
EXIT_FAILED = 1
EXIT_BROKEN_PIPE = 141
_SIGNALS = {signal.SIGINT: (EXIT_INTERRUPTED, "interrupted"), signal.SIGTERM: (EXIT_TERMINATED, "terminated")}

told: Console | None = None
"""The latest run's, who knows what is there already."""


_ending: EndedEarlyError | None = None
"""What the latest signal raised, should something have swallowed it."""


class EndedEarlyError(BaseException):
    """No `Exception`: nothing between here and `main` may take it for a failure of its own."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.saying = False
        self._said = False

    def show(self) -> None:
        """Say why, and what became of the run, once; on a terminal, below what progress has drawn."""
        if self._said:
            return
        self._said = self.saying = True
        live = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        text = f"{live}{self.message}; {tell_fate()}\n"
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except RuntimeError:  # the signal came while something was being written
            os.write(2, text.encode(errors="replace"))
        self.saying = False


def tell_fate() -> str:
    """Say what became of the result."""
    if told is None or not told.destination:
        return "nothing was published"
    return f"{told.reference} was published" if told.reference else f"{told.destination} may have been published"


def run_process(main: Callable[[], int]) -> NoReturn:
    """End the process with what `main` returns, or with the code of the first signal that comes before it is gone."""
    code = EXIT_FAILED

    def leave() -> None:
        """The last of all that is called: Python would give the signals back, and then take its time."""
        result = _flush() or code
        if _ending is not None:
            _ending.show()
            result = _ending.exit_code
        os._exit(result)

    atexit.register(leave)
    try:
        catch_signals()
        code = main()
        if _ending is None:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            _force(_SIGNALS)
    except EndedEarlyError as early:
        early.show()
    except SystemExit as ended:  # as click's completion of a command line ends
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.exit(code)


def _flush() -> int:
    """Write what was printed; returns the exit code of a failure, 0 without one."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except OSError as error:
        sys.stderr.write(f"error: standard output: {error.strerror}\n")
        return EXIT_FAILED
    return 0


def catch_signals() -> None:
    """Turn SIGINT and SIGTERM into `EndedEarlyError`."""
    for number in _SIGNALS:
        signal.signal(number, _end)


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


def _raise(ending: EndedEarlyError) -> NoReturn:
    """Raise, and see to it that this has an end, too; a second signal doesn't wait for that."""
    global _ending  # noqa: PLW0603 - signals are the process's
    _ending = ending
    _force((signal.SIGALRM, *_SIGNALS))
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    raise ending


def _force(numbers: Iterable[signal.Signals]) -> None:
    """Let the next signal end the process at once."""
    for number in numbers:
        signal.signal(number, _end_now)


def _end_now(number: int, _frame: FrameType | None) -> None:
    global _ending  # noqa: PLW0603
    if _ending is None:
        _ending = EndedEarlyError(*_SIGNALS[signal.Signals(number)])
    if _ending.saying and number != signal.SIGALRM:
        return  # it is as good as over
    with suppress(BaseException):
        _ending.show()
        cache = sys.modules.get("copacetic.cache")  # whoever hasn't imported it has no folder, either
        if cache is not None:
            cache.remove_temporary_folders()
    os._exit(_ending.exit_code)
