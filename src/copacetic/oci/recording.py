# SPDX-License-Identifier: Apache-2.0
"""What was looked at in a filesystem, and whether that is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem, LayeredView, hidden_versions

_HIDDEN = "\0"
"""Marks an element of a read set as the older versions of a path; no path has it."""
_HIDDEN_LIMIT = 1 << 30


class RecordingFilesystem:
    """Another filesystem, which remembers what was looked at: the read set of whatever works on it."""

    def __init__(self, fs: ImageFilesystem) -> None:
        self._fs = fs
        self._reads: set[str] = set()

    def reads(self) -> frozenset[str]:
        """
        Return the paths that were looked up or read, with a trailing slash those of listed directories, and with a
        trailing NUL those of which older versions were asked for.
        """
        return frozenset(self._reads)

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        self._reads.add(path)
        return self._fs.lookup(path, follow=follow)

    def resolve(self, path: str, *, follow: bool = True) -> str:
        self._reads.add(path)
        return self._fs.resolve(path, follow=follow)

    def read(self, path: str, *, limit: int) -> bytes:
        self._reads.add(path)
        return self._fs.read(path, limit=limit)

    def iterdir(self, path: str) -> tuple[str, ...]:
        self._reads.add(f"{path}/")
        return self._fs.iterdir(path)

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        self._reads.add(f"{path}/")
        for below, entry in self._fs.walk(path):
            self._reads.add(below)
            if entry.type is FileType.DIRECTORY:
                self._reads.add(f"{below}/")
            yield below, entry

    def layer_of(self, path: str) -> int | None:
        return self._fs.layer_of(path)

    def hidden_versions(self, path: str, *, limit: int) -> tuple[bytes, ...]:
        self._reads.add(f"{path}{_HIDDEN}")
        return hidden_versions(self._fs, path, limit=limit)


def state_of(fs: ImageFilesystem, paths: Iterable[str]) -> str:
    """Digest all that an image says about a read set: where each path is, what it is, what it holds."""
    states = [_state(fs, path) for path in paths]
    try:
        data = msgspec.msgpack.encode(states)
    except UnicodeEncodeError:  # a name that is no text
        data = repr(states).encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()


def _state(fs: ImageFilesystem, path: str) -> tuple[object, ...]:
    if path.endswith(_HIDDEN):
        return path, hidden_versions(fs, path.removesuffix(_HIDDEN), limit=_HIDDEN_LIMIT)
    if path.endswith("/"):
        return path, fs.resolve(path), fs.iterdir(path)
    entry = fs.lookup(path, follow=False)
    state = (path, fs.resolve(path, follow=False), _description(entry))
    if entry is None or entry.type is not FileType.SYMLINK:
        return state
    return *state, fs.resolve(path), _description(fs.lookup(path))


def _description(entry: Entry | None) -> object:
    return entry and (
        *(entry.type.value, entry.mode, entry.uid, entry.gid, entry.size, entry.target, entry.device),
        *(sorted(entry.xattrs.items()), entry.sha256, entry.link_group, entry.implicit),
    )


_: type[ImageFilesystem] = RecordingFilesystem
_view: type[LayeredView] = RecordingFilesystem
