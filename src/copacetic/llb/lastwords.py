# SPDX-License-Identifier: Apache-2.0
"""
What of a process's output is worth showing when it fails: its last lines, and the one that names the cause.

Package managers say early what is wrong, and then at length what comes of it: what was told first explains the rest.
"""

from __future__ import annotations

import re
from collections import deque

__all__ = ["LastWords"]

LINE = 300
"""Characters of a line that are kept."""
KEPT = 20
SHOWN = 5
_PIECE = 64 * 1024
_CAUSE = re.compile(r"dpkg: error\b|dpkg: regarding |dpkg-deb: error\b|E: (?!Sub-process )|ERROR: ")
_MARKS = ("dpkg: ", "dpkg-deb: ", "E: ", "ERROR: ")
"""Without one of these there is no cause, and looking for a text is ten times as fast."""
_GOES_ON = ("dpkg: regarding ", "dpkg: error processing ", "ERROR: unable to select ")
"""What is wrong stands in the line that follows."""


class LastWords:
    """Takes a process's output piece by piece; what it keeps has a size of its own, however much is said."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._line = ""
        self._cause: list[str] = []
        self._complete = False
        """Whether the cause has all its lines."""

    def add(self, text: str) -> None:
        """Take more of the output, wherever it is cut."""
        for at in range(0, len(text), _PIECE):
            self._add(text[at : at + _PIECE])

    def lines(self) -> tuple[str, ...]:
        """Return what is kept of the output, for finding something in it."""
        self._end_line()
        return (*self._cause, *self._lines)

    def show(self) -> str:
        """Return the last lines in one, led by the cause where it isn't among them; empty for no output."""
        self._end_line()
        last = [*self._lines][-SHOWN:]
        missing = [line for line in self._cause if line not in last]
        return " | ".join([*missing, *["…"] * bool(missing), *last])

    def _end_line(self) -> None:
        if self._line.strip():
            self._add("\n")

    def _add(self, text: str) -> None:
        whole = self._line + text
        *ended, last = whole.split("\n")
        self._line = last[:LINE]
        if ended and not self._complete and (self._cause or any(mark in whole for mark in _MARKS)):
            self._look(ended)
        kept: list[str] = []
        for line in reversed(ended):  # of millions of lines only the last count
            if short := line[:LINE].strip():
                kept.append(short)
                if len(kept) == KEPT:
                    break
        self._lines.extend(reversed(kept))

    def _look(self, ended: list[str]) -> None:
        for line in filter(None, (line[:LINE].strip() for line in ended)):
            if self._cause:
                self._cause.append(line)
                self._complete = True
            elif _CAUSE.match(line):
                self._cause.append(line)
                self._complete = not line.startswith(_GOES_ON)
            if self._complete:
                return
