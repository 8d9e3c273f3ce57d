# SPDX-License-Identifier: Apache-2.0
"""Whenever a signal comes, the process ends with its code and one line, and no way of ending makes it another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

_CHILD = """
import os, signal, sys
from copacetic.cli import ending, run

moments = [int(word) for word in sys.argv.pop(1).split(",")]
numbers = [int(word) for word in sys.argv.pop(1).split(",")]
calls = 0

def count(frame, event, argument):
    global calls
    calls += 1
    if moments and calls >= moments[0]:
        moments.pop(0)
        os.kill(os.getpid(), numbers.pop(0))

def watched(self, catch=ending.Ending.catch_signals):
    catch(self)
    sys.setprofile(count)

ending.Ending.catch_signals = watched
"""
_COUNTED = f"{_CHILD}\nleave = os._exit\nos._exit = lambda code: (os.write(2, str(calls).encode()), leave(code))\nrun()"
EVENTS = 40
"""Between two signals: enough to be inside of what the first one sets off."""
ENDINGS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


def copa(code: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", code, *arguments, "inspect", "oci:nowhere:1", "--no-cache"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    return done.returncode, done.stderr


def test_two_signals_at_any_moment_give_the_code_of_the_first() -> None:
    code, said = copa(_COUNTED, "0", "0")
    total = int(said.split()[-1])
    assert code == 1

    def end(moment: int, first: signal.Signals, second: signal.Signals) -> tuple[int, str]:
        ended, said = copa(f"{_CHILD}\nrun()", f"{moment},{moment + EVENTS}", f"{first.value},{second.value}")
        assert "Traceback" not in said
        return ended, said.splitlines()[-1]

    moments = [1, *range(total // 5, total, total // 5), total - 60, total - 10, total - 1]
    with ThreadPoolExecutor(2) as pool:
        pairs = [(moment, *(list(ENDINGS)[:: 1 - 2 * (rank % 2)])) for rank, moment in enumerate(moments)]
        ends = list(pool.map(end, *zip(*pairs, strict=True)))

    assert ends == [(ENDINGS[first][0], f"{ENDINGS[first][1]}; nothing was published") for _, first, _ in pairs]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "late",
    [
        "import atexit; atexit.register({kill})",  # runs before what was registered later, and after all threads
        "import threading; threading._register_atexit({kill})",
        "import weakref; ending.kept = type('Kept', (), {{'__del__': lambda _: ({kill})()}})()",
    ],
)
def test_a_signal_while_the_interpreter_ends_changes_no_code_of_an_ending(number: signal.Signals, late: str) -> None:
    kill = f"lambda: [os.kill(os.getpid(), {number.value}) for _ in range(3)]"

    code, said = copa(f"{_CHILD}\n{late.format(kill=kill)}\nrun()", "300", str(number.value))

    assert (code, said) == (ENDINGS[number][0], f"{ENDINGS[number][1]}; nothing was published\n")


def test_a_signal_that_something_swallows_ends_the_run_all_the_same() -> None:
    swallow = (
        "import copacetic.api\ndef inspect(*_, **__):\n try: os.kill(os.getpid(), 2)\n except BaseException: pass\n"
    )

    code, said = copa(
        f"{_CHILD}\n{swallow} raise SystemExit(0)\ncopacetic.api.inspect = inspect\nrun()", "99999999", "0"
    )

    assert (code, said) == (130, "interrupted; nothing was published\n")


def test_a_result_that_cant_be_written_is_no_success() -> None:
    code = "from copacetic.cli.ending import Ending\nEnding().run_process(lambda: print('result') or 0)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=environment, check=False
        )

    assert (done.returncode, done.stderr.decode()) == (1, "error: standard output: No space left on device\n")
