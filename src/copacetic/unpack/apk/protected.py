# SPDX-License-Identifier: Apache-2.0
"""
Protected paths: the directories in which apk keeps what the administrator has changed.

Follows apk-tools' `etc/apk/protected_paths.d/*.list`: a pattern on each line, with a letter in front (`+ @ !` protect,
`-` takes protection away, none is `+`). Patterns meet directories component by component, a directory passes its
state on to those below it, and the last pattern that meets one counts. A pattern that names a file means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from copacetic.errors import ImageError
from copacetic.glob import matches_glob
from copacetic.oci.filesystem import FileType, ImageFilesystem

__all__ = ["ProtectedPaths"]

FOLDER = "etc/apk/protected_paths.d"
MAX_FILE = 1024 * 1024
_BUILT_IN = ("+etc", "@etc/init.d", "!etc/apk")
_Patterns = tuple[tuple[str, bool], ...]
"""What is left of each pattern below a directory, and whether it protects."""


class ProtectedPaths:
    """Tells which directories are protected."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        patterns = [_parse(line) for line in (*_BUILT_IN, *lines)]
        root: _Patterns = tuple(pattern for pattern in patterns if pattern is not None)
        self._known: dict[str, tuple[bool, _Patterns]] = {"": (False, root)}

    @classmethod
    def read(cls, fs: ImageFilesystem) -> ProtectedPaths:
        """Read an image's lists, in the order of their names."""
        lines: list[str] = []
        for name in fs.iterdir(FOLDER):
            entry = fs.lookup(f"{FOLDER}/{name}")
            if not name.endswith(".list") or name.startswith(".") or entry is None or entry.type is not FileType.FILE:
                continue
            data = fs.read(f"{FOLDER}/{name}", limit=MAX_FILE)
            lines += data.decode("utf-8", "surrogateescape").split("\n")
        return cls(lines)

    def protects(self, directory: str) -> bool:
        """Tell whether files directly in a directory, as packages spell it, are protected."""
        return self._look_up(directory)[0]

    def _look_up(self, directory: str) -> tuple[bool, _Patterns]:
        known = self._known.get(directory)
        if known is not None:
            return known
        above, _, name = directory.rpartition("/")
        protected, patterns = self._look_up(above)
        below: list[tuple[str, bool]] = []
        for pattern, protects in patterns:
            first, slash, rest = pattern.partition("/")
            if not matches_glob(name, first):
                continue
            if slash:
                below.append((rest, protects))
            else:
                protected = protects
        self._known[directory] = found = (protected, tuple(below))
        return found


def _parse(line: str) -> tuple[str, bool] | None:
    if not line or line.startswith("#"):
        return None
    protects = not line.startswith("-")
    pattern = line[1:] if line[0] in "+-@!" else line
    if "\\" in pattern:
        raise ImageError(f"{FOLDER} has a pattern with a backslash, which is not supported: {pattern[:100]!r}")
    pattern = pattern.strip("/")
    return (pattern, protects) if pattern else None
