# SPDX-License-Identifier: Apache-2.0
"""
Results of work that is a pure function of its inputs and of what it reads in an image.

A result is kept with its read set: another image in which everything that was read is the same gets the same
result. Images on one base pay once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec

from copacetic.cache import Cache
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layerindex import pack_text, unpack_text
from copacetic.oci.recording import state_of

MAX_VARIANTS = 8
"""Results kept for one key, one for each different base."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    reads: list[str]
    state: str
    result: bytes


class Memo:
    """One kind of result; `version` changes whenever the same input gives another one."""

    def __init__(self, cache: Cache, name: str, *, version: int) -> None:
        self._bucket = cache.bucket(name, version=version)

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Hold a key while its result is made, so that others wait and take it."""
        return self._bucket.lock(key)

    def find(self, key: str, fs: ImageFilesystem) -> Iterator[bytes]:
        """Yield the results that hold for this image, the newest first."""
        for kept in self._variants(key):
            if _state(fs, [unpack_text(path) for path in kept.reads]) == kept.state:
                yield kept.result

    def keep(self, key: str, fs: ImageFilesystem, reads: frozenset[str], result: bytes) -> None:
        """Remember a result with the paths that were read for it (see `RecordingFilesystem.reads`)."""
        ordered = sorted(reads)
        kept = _Kept([pack_text(path) for path in ordered], _state(fs, ordered), result)
        others = [other for other in self._variants(key) if other.state != kept.state]
        self._bucket.write(key, msgspec.msgpack.encode([kept, *others][:MAX_VARIANTS]))

    def _variants(self, key: str) -> list[_Kept]:
        data = self._bucket.read(key)
        try:
            return msgspec.msgpack.decode(data, type=list[_Kept]) if data else []
        except msgspec.DecodeError:
            return []


def _state(fs: ImageFilesystem, paths: Sequence[str]) -> str:
    """Digest what an image has at these paths."""
    state = hashlib.sha256()
    for path in paths:
        state.update(state_of(fs, path))
    return state.hexdigest()
