# SPDX-License-Identifier: Apache-2.0
"""
What a maintainer script would find around it: the image's files, users and programs.

An answer is given only where it holds during the whole installation. What a package adds or removes, or what a
script may have changed before, is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from copacetic.errors import ImageError
from copacetic.oci.filesystem import Entry, FileType
from copacetic.unpack.scripts.changes import ChangeSet
from copacetic.unpack.scripts.settled import COMMANDS, QUERIES, Question, ask
from copacetic.unpack.scripts.shell.expansion import Value
from copacetic.unpack.scripts.shell.interpret import Reached
from copacetic.unpack.tree import TreeBuilder

__all__ = ["PROGRAM_FOLDERS", "ImageSurroundings", "test_entry"]

PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
MAX_SOURCE = 256 * 1024
_VOLATILE = ("/proc/", "/sys/", "/dev/", "/run/", "/var/run/", "/tmp/")
_ABSENT = ("/run/systemd/", "/run/openrc", "/run/udev/control")
_TYPES: Mapping[str, FileType] = {
    "-f": FileType.FILE,
    "-d": FileType.DIRECTORY,
    "-L": FileType.SYMLINK,
    "-h": FileType.SYMLINK,
    "-p": FileType.FIFO,
}


@dataclass(slots=True)
class ImageSurroundings:
    """Answers the questions of `interpret` and `judge`; `unstable` are paths that scripts may have changed."""

    tree: TreeBuilder
    changes: ChangeSet
    compare: Callable[[str, str, str], bool | None]
    unstable: set[str] = field(default_factory=set)
    queries: Mapping[str, Question] = field(default_factory=lambda: QUERIES)
    commands: Mapping[str, Question] = field(default_factory=lambda: COMMANDS)

    def compare_versions(self, left: str, operator: str, right: str) -> bool | None:
        """Compare as `dpkg --compare-versions` does."""
        return self.compare(left, operator, right)

    def test_file(self, operator: str, path: str) -> bool | None:
        """Answer what `test` asks about a file."""
        if path.startswith(_ABSENT) or path == "":
            return False
        if not path.startswith("/") or any(char in path for char in "*?[") or path.startswith(_VOLATILE):
            return None
        plain = operator in ("-L", "-h")
        canonical = self.resolve(path, follow=not plain)
        for known in {canonical, self.resolve(path, follow=False)}:
            if known in self.unstable or known in self.changes.removed:
                return None
            if known in self.changes.files:
                return operator in ("-e", "-f") or (None if operator not in ("-d", "-L", "-h") else False)
            if known in self.changes.added or known in self.changes.conffiles:
                return None
        return test_entry(operator, self.tree.lookup(path, follow=not plain))

    def has_program(self, name: str) -> bool | None:
        """Tell whether a program is there to be run, under its path or in the usual folders."""
        paths = [name] if "/" in name else [f"/{folder}/{name}" for folder in PROGRAM_FOLDERS]
        answers = [self.test_file("-e", path) for path in paths]
        return True if True in answers else None if None in answers else False

    def reach(self, command: Reached) -> bool | None:
        """Tell whether a query of the system's databases succeeds."""
        known = [word for word in command.words if word is not None]
        return ask(self.queries, self.tree, known) if len(known) == len(command.words) else None

    def read_output(self, _words: Sequence[Value]) -> str | None:
        """Nothing is known of output."""
        return None

    def find_paths(self, _pattern: str) -> tuple[str, ...] | None:
        """Which paths there will be isn't known."""
        return None

    def find_source(self, path: str) -> str | None:
        """Return a script that is in the image and stays as it is."""
        if not path.startswith("/"):
            return None
        canonical = self.resolve(path, follow=True)
        moving = self.changes.changed | self.changes.added | self.changes.removed | self.changes.conffiles
        if canonical in moving or canonical in self.unstable:
            return None
        try:
            return self.tree.read(canonical, limit=MAX_SOURCE).decode("utf-8")
        except (FileNotFoundError, ImageError, UnicodeDecodeError):
            return None

    def is_settled(self, words: Sequence[str]) -> bool | None:
        """Tell whether running a command would change nothing."""
        return ask(self.commands, self.tree, words)

    def resolve(self, path: str, *, follow: bool = False) -> str:
        """Return a path's canonical form; one that can't be resolved stays as it is."""
        try:
            return self.tree.resolve(path.lstrip("/"), follow=follow)
        except ImageError:
            return path.lstrip("/")


def test_entry(operator: str, entry: Entry | None) -> bool | None:
    """Answer what `test` asks about an entry, as root."""
    if entry is None:
        return False
    if operator in ("-e", "-r", "-w"):
        return True
    if operator in _TYPES:
        return entry.type is _TYPES[operator]
    if operator == "-x":
        return entry.type is FileType.DIRECTORY or bool(entry.mode & 0o111)
    if operator == "-s":
        return entry.size > 0 if entry.type is FileType.FILE else None
    return None
