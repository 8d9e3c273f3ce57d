# SPDX-License-Identifier: Apache-2.0
"""An image's files as a mapping: without links and layers, and fast enough for very many images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from copacetic.errors import ImageError
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem


class MemoryFilesystem:
    """`ImageFilesystem` of regular files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)
        self._names: dict[str, set[str]] = {}
        for path in files:
            parts = path.split("/")
            for depth in range(len(parts)):
                self._names.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        if path in self._files:
            return Entry(type=FileType.FILE, mode=0o644, size=len(self._files[path]))
        return Entry(type=FileType.DIRECTORY, mode=0o755) if path in self._names else None

    def resolve(self, path: str, *, follow: bool = True) -> str:
        return path

    def read(self, path: str, *, limit: int) -> bytes:
        data = self._files.get(path)
        if data is None:
            raise FileNotFoundError(path)
        if len(data) > limit:
            raise ImageError(f"{path} has {len(data)} bytes, the limit is {limit}")
        return data

    def iterdir(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(self._names.get(path, ())))

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        for name in sorted({*self._files, *self._names} - {""}):
            entry = self.lookup(name)
            if entry is not None and name.startswith(path):
                yield name, entry

    def layer_of(self, path: str) -> int | None:
        return 0 if path in self._files else None


_: type[ImageFilesystem] = MemoryFilesystem
