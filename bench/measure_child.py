# SPDX-License-Identifier: Apache-2.0
"""Runs one command and prints its exit code, wall seconds, processor seconds and peak kilobytes; small, since a child inherits a peak."""

import os
import sys
import time

started = time.perf_counter()
pid = os.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w", encoding="ascii") as file:
    busy = usage.ru_utime + usage.ru_stime
    file.write(f"{os.waitstatus_to_exitcode(status)} {time.perf_counter() - started} {busy} {usage.ru_maxrss}")
