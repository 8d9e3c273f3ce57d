# SPDX-License-Identifier: Apache-2.0
"""
Digests of a big text's pieces, so that whoever reads a little of it can check that little.

A text in the cache was checked as a whole before it was written; hashing all of it again for a few rows would take
longer than everything else that is done with it.
"""

from __future__ import annotations

import hashlib
import mmap

__all__ = ["PieceSums", "SumsMaker"]

PIECE = 16 * 1024
_LENGTH = 16


class SumsMaker:
    """Takes a text as it comes."""

    def __init__(self) -> None:
        self._done = bytearray()
        self._open = hashlib.sha256()
        self._room = PIECE

    def feed(self, part: bytes) -> None:
        rest = memoryview(part)
        while rest:
            piece = rest[: self._room]
            self._open.update(piece)
            self._room -= len(piece)
            rest = rest[len(piece) :]
            if not self._room:
                self._close()

    def finish(self) -> bytes:
        """Return the digests, when all is there."""
        if self._room < PIECE:
            self._close()
        return bytes(self._done)

    def _close(self) -> None:
        self._done += self._open.digest()[:_LENGTH]
        self._open, self._room = hashlib.sha256(), PIECE


class PieceSums:
    """Checks pieces of one text, each once."""

    def __init__(self, sums: bytes) -> None:
        self._sums = sums
        self._right: set[int] = set()

    def holds(self, text: bytes | mmap.mmap, start: int, end: int) -> bool:
        """Tell whether the bytes from `start` to `end` are those of the text that was digested."""
        view = memoryview(text)
        for number in range(start // PIECE, -(-end // PIECE)):
            if number in self._right:
                continue
            digest = hashlib.sha256(view[number * PIECE : (number + 1) * PIECE]).digest()[:_LENGTH]
            if digest != self._sums[number * _LENGTH : (number + 1) * _LENGTH]:
                return False
            self._right.add(number)
        return True
