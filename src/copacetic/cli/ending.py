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


class EndedEarlyError(BaseException):
    """No `Exception`: nothing between here and `main` may take it for a failure of its own."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message


class Ending:
    """How one run of the command line may end. Signals are the process's, so two don't run at once."""

    def __init__(self) -> None:
        self.console: Console | None = None
        """The run's, which knows what is there already."""
        self._early: EndedEarlyError | None = None
        """What the latest signal raised, should something have swallowed it."""
        self._saying = False
        self._said = False

    def tell_fate(self) -> str:
        """Say what became of the result."""
        told = self.console
        if told is None or not told.destination:
            return "nothing was published"
        return f"{told.reference} was published" if told.reference else f"{told.destination} may have been published"

    def show(self, early: EndedEarlyError) -> None:
        """Say why, and what became of the run, once; on a terminal, below what progress has drawn."""
        if self._said:
            return
        self._said = self._saying = True
        live = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        text = f"{live}{early.message}; {self.tell_fate()}\n"
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except RuntimeError:  # the signal came while something was being written
            os.write(2, text.encode(errors="replace"))
        self._saying = False

    def run_process(self, main: Callable[[], int]) -> NoReturn:
        """End the process with what `main` returns, or with the code of the first signal before it is gone."""
        code = EXIT_FAILED

        def leave() -> None:
            """The last of all that is called: Python would give the signals back, and then take its time."""
            result = _flush() or code
            if self._early is not None:
                self.show(self._early)
                result = self._early.exit_code
            os._exit(result)

        atexit.register(leave)
        try:
            self.catch_signals()
            code = main()
            if self._early is None:
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                self._force(_SIGNALS)
        except EndedEarlyError as early:
            self.show(early)
        except SystemExit as ended:  # as click's completion of a command line ends
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.exit(code)

    def catch_signals(self) -> None:
        """Turn SIGINT and SIGTERM into `EndedEarlyError`."""
        for number in _SIGNALS:
            signal.signal(number, self._end)

    def start_timer(self, seconds: float) -> None:
        """End the run when its time is over."""

        def expired(_number: int, _frame: FrameType | None) -> None:
            self._raise(EndedEarlyError(EXIT_TIMEOUT, f"error: not finished after {seconds:.0f} s (see --timeout)"))

        signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self._raise(EndedEarlyError(*_SIGNALS[signal.Signals(number)]))

    def _raise(self, early: EndedEarlyError) -> NoReturn:
        """Raise, and see to it that this has an end, too; a second signal doesn't wait for that."""
        self._early = early
        self._force((signal.SIGALRM, *_SIGNALS))
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        raise early

    def _force(self, numbers: Iterable[signal.Signals]) -> None:
        """Let the next signal end the process at once."""
        for number in numbers:
            signal.signal(number, self._end_now)

    def _end_now(self, number: int, _frame: FrameType | None) -> None:
        if self._early is None:
            self._early = EndedEarlyError(*_SIGNALS[signal.Signals(number)])
        if self._saying and number != signal.SIGALRM:
            return  # it is as good as over
        with suppress(BaseException):
            self.show(self._early)
            cache = sys.modules.get("copacetic.cache")  # whoever hasn't imported it has no folder, either
            if cache is not None:
                cache.remove_temporary_folders()
        os._exit(self._early.exit_code)


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


@contextmanager
def restore_signals() -> Iterator[None]:
    """Undo what is done to signals and their timer while the context lasts: a process may have more to do than this."""
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, *_SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(number, handler)
