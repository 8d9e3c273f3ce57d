# SPDX-License-Identifier: Apache-2.0
"""
Results of work that is a pure function of its inputs and of what it reads in an image.

A result is kept with its read set: another image in which everything that was read is the same gets the same
result. Images on one base pay once, and an image that was seen before isn't even looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec
from msgspec.structs import replace

from copacetic.cache import Cache
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerindex import pack_text, unpack_text
from copacetic.oci.recording import state_of

MAX_VARIANTS = 8
"""Results kept for one key, one for each different base."""


MAX_VIEWS = 256
"""Images for which it is remembered that a result holds."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    reads: list[str]
    state: str
    result: bytes
    views: list[str] = []
    """Images for which that state was found, by `LayeredFilesystem.identity`."""


class Memo:
    """One kind of result; `version` changes whenever the same input gives another one."""

    def __init__(self, cache: Cache, name: str, *, version: int) -> None:
        self._bucket = cache.bucket(name, version=version)

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Hold a key while its result is made, so that others wait and take it."""
        return self._bucket.lock(key)

    def find(self, key: str, fs: ImageFilesystem) -> Iterator[bytes]:
        """Yield the results that hold for this image, the newest first."""
        view = _identity(fs)
        variants = self._variants(key)
        for position, kept in enumerate(variants):
            if view and view in kept.views:
                yield kept.result
            elif state_of(fs, (unpack_text(path) for path in kept.reads)) == kept.state:
                if view:
                    variants[position] = replace(kept, views=[view, *kept.views][:MAX_VIEWS])
                    self._bucket.write(key, msgspec.msgpack.encode(variants))
                yield kept.result

    def keep(self, key: str, fs: ImageFilesystem, reads: frozenset[str], result: bytes) -> None:
        """Remember a result with the paths that were read for it (see `RecordingFilesystem.reads`)."""
        ordered = sorted(reads)
        view = _identity(fs)
        packed = [pack_text(path) for path in ordered]
        kept = _Kept(packed, state_of(fs, ordered), result, [view] if view else [])
        others = [other for other in self._variants(key) if other.state != kept.state]
        self._bucket.write(key, msgspec.msgpack.encode([kept, *others][:MAX_VARIANTS]))

    def _variants(self, key: str) -> list[_Kept]:
        data = self._bucket.read(key)
        try:
            return msgspec.msgpack.decode(data, type=list[_Kept]) if data else []
        except msgspec.DecodeError:
            return []


def _identity(fs: ImageFilesystem) -> str:
    return fs.identity if isinstance(fs, LayeredFilesystem) else ""
