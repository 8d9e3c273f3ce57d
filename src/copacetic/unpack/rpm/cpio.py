# SPDX-License-Identifier: Apache-2.0
"""
The payload of an rpm package: a cpio archive, plain (`newc`) or stripped of all that the header says already.

Only bytes are taken from it. Paths, sizes, modes and owners are the header's, which is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from copacetic.errors import PackageError

__all__ = ["MAX_NAME", "CpioMember", "CpioReader"]

MAX_NAME = 4096
PIECE = 1 << 18
_NEWC = (b"070701", b"070702")
_STRIPPED = b"07070X"
_TRAILER = b"TRAILER!!!"
_FIELDS = 13
_WIDTH = 8
_SIZE, _NAME_SIZE = 6, 11
CpioMember = bytes | int
"""By its name as it stands there, or by its place in the header's list."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class CpioReader:
    """
    Reads one member after the other. What a member holds has to be read or skipped before the next comes, which is
    done for whoever doesn't.

    Raises `PackageError` for whatever isn't an archive; the source's own errors pass.
    """

    def __init__(self, source: _Source, label: str) -> None:
        self._source = source
        self._label = label
        self._ready = memoryview(b"")
        self._position = 0
        self._left = 0

    def members(self, size_of: Callable[[int], int]) -> Iterator[tuple[CpioMember, int]]:
        """Yield what a member is and how many bytes it has; `size_of` says so for one that only has a number."""
        while True:
            self._skip(self._left)
            self._align()
            magic = self._take(6)
            if magic == _STRIPPED:
                place = _number(self._take(_WIDTH), self._label)
                self._align()
                member: CpioMember = place
                self._left = size_of(place)
            elif magic in _NEWC:
                fields = self._take(_FIELDS * _WIDTH)
                length = _number(fields[_NAME_SIZE * _WIDTH : (_NAME_SIZE + 1) * _WIDTH], self._label)
                if not 1 < length <= MAX_NAME:
                    raise PackageError(f"{self._label}: a name of {length} bytes in its payload")
                member = self._take(length)[:-1]
                self._align()
                if member == _TRAILER:
                    return
                self._left = _number(fields[_SIZE * _WIDTH : (_SIZE + 1) * _WIDTH], self._label)
            else:
                raise PackageError(f"{self._label}: its payload is not a cpio archive, or is cut off")
            yield member, self._left

    def content(self) -> Iterator[memoryview]:
        """Yield what the current member holds."""
        while self._left:
            piece = self._some(min(self._left, PIECE))
            self._left -= len(piece)
            yield piece

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._some(min(size, PIECE)))
        self._left = 0

    def _align(self) -> None:
        self._skip(-self._position % 4)

    def _take(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            piece = self._some(size)
            parts.append(bytes(piece))
            size -= len(piece)
        return b"".join(parts)

    def _some(self, most: int) -> memoryview:
        if not self._ready:
            self._ready = memoryview(self._source.read(PIECE))
            if not self._ready:
                raise PackageError(f"{self._label}: its payload is cut off")
        piece, self._ready = self._ready[:most], self._ready[most:]
        self._position += len(piece)
        return piece


def _number(field: bytes, label: str) -> int:
    try:
        return int(field.decode("ascii"), 16) if field.isalnum() else int("", 16)
    except ValueError:
        raise PackageError(f"{label}: its payload has a number that is none") from None
