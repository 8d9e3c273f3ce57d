# SPDX-License-Identifier: Apache-2.0
"""
What a maintainer script would find around it: the image's files, users and programs."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from copacetic.errors import ImageError
from copacetic.glob import matches_glob
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.changes import ChangeSet
from copacetic.scripts.commands import FILE_CHANGERS
from copacetic.scripts.outputs import OUTPUTS
from copacetic.scripts.settled import QUERIES, ask, is_settled
from copacetic.scripts.shell.expansion import Value, has_pattern
from copacetic.scripts.shell.interpret import Reached, Surroundings

__all__ = ["PROGRAM_FOLDERS", "ImageSurroundings", "TreeSurroundings", "sort_paths", "test_entry", "written_paths"]

PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
MAX_SOURCE = 256 * 1024
_VOLATILE = ("/proc/", "/sys/", "/dev/", "/run/", "/var/run/", "/tmp/")
_ABSENT = ("/run/systemd/", "/run/openrc", "/run/udev/control")
_DATABASES = frozenset(
    ("dpkg-divert", "adduser", "addgroup", "useradd", "groupadd", "deb-systemd-helper", "update-rc.d")
)
"""Commands about which something else than the paths among their words tells."""
_MADE: Mapping[str, frozenset[str]] = {
    "var/lib/dpkg": frozenset(("available", "lock", "lock-frontend", "status", "status-old", "triggers", "updates"))
}
"""What dpkg has in its folder while it runs scripts, whatever an image has there."""
_TYPES: Mapping[str, FileType] = {
    "-f": FileType.FILE,
    "-d": FileType.DIRECTORY,
    "-L": FileType.SYMLINK,
    "-h": FileType.SYMLINK,
    "-p": FileType.FIFO,
}


@dataclass(slots=True)
class TreeSurroundings(Surroundings):
    """Answers the questions of `interpret` and `judge` about a tree."""

    tree: TreeBuilder

    def find_program(self, name: str) -> str | None:
        """Return the path at which the shell finds a program."""
        return next((path for path in _program_paths(name) if self.test_file("-e", path)), None)

    def has_program(self, name: str) -> bool | None:
        """Tell whether a program is there to be run, under its path or in the usual folders."""
        answers = [self.test_file("-e", path) for path in _program_paths(name)]
        return True if True in answers else None if None in answers else False

    def local_programs(self) -> frozenset[str]:
        """Return the names of programs in /usr/local, where no distribution puts one."""
        return frozenset((*self.names_in("usr/local/sbin"), *self.names_in("usr/local/bin")))

    def names_in(self, path: str) -> tuple[str, ...]:
        """Return what is in a folder; nothing is where links only lead to each other."""
        try:
            return self.tree.iterdir(path)
        except ImageError:
            return ()

    def find_entry(self, path: str, *, follow: bool = True) -> Entry | None:
        """Return what is at a path; nothing is where links only lead to each other."""
        try:
            return self.tree.lookup(path, follow=follow)
        except ImageError:
            return None

    def is_settled(self, words: Sequence[str]) -> bool | None:
        """Tell whether running a command would change nothing; None when that can't be told."""
        return is_settled(self.tree, words)

    def resolve(self, path: str, *, follow: bool = False) -> str:
        """Return a path's canonical form; one that can't be resolved stays as it is."""
        try:
            return self.tree.resolve(path.lstrip("/"), follow=follow)
        except ImageError:
            return path.lstrip("/")


@dataclass(slots=True)
class ImageSurroundings(TreeSurroundings):
    """
    An answer is given only where it holds during the whole installation. What a package adds or removes, or what a
    script may have changed before, is not known.
    """

    changes: ChangeSet
    compare: Callable[[str, str, str], bool | None]
    unstable: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Paths that scripts may have changed, and which scripts."""
    _local: frozenset[str] | None = None
    _script: str = ""
    _moved: set[str] = field(default_factory=set)
    """What the script that is followed may have changed by now."""

    def begin(self, script: str) -> None:
        """Start to follow a script, one of those that `unstable` names."""
        self._script, self._moved = script, set()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Follow something else meanwhile."""
        saved = self._script, self._moved
        yield
        self._script, self._moved = saved

    def _is_unstable(self, canonical: str) -> bool:
        return canonical in self._moved or not self.unstable.get(canonical, frozenset()) <= {self._script}

    def local_programs(self) -> frozenset[str]:
        """Return the names of programs that are none of the distribution's."""
        if self._local is None:
            brought = (path for path in self.changes.files | self.changes.added if path.startswith("usr/local/"))
            self._local = TreeSurroundings.local_programs(self) | {path.rpartition("/")[2] for path in brought}
        return self._local

    def compare_versions(self, left: str, operator: str, right: str) -> bool | None:
        """Compare as `dpkg --compare-versions` does."""
        return self.compare(left, operator, right)

    def test_file(self, operator: str, path: str) -> bool | None:
        """Answer what `test` asks about a file."""
        if path.startswith(_ABSENT) or path == "":
            return False
        if not path.startswith("/") or path.startswith(_VOLATILE):
            return None
        if has_pattern(path):
            return False if self.find_paths(path) == () else None  # one that matched nothing stands for itself
        plain = operator in ("-L", "-h")
        canonical = self.resolve(path, follow=not plain)
        for known in {canonical, self.resolve(path, follow=False)}:
            if self._is_unstable(known) or known in self.changes.removed:
                return None
            if known in self.changes.files:
                return operator in ("-e", "-f") or (None if operator not in ("-d", "-L", "-h") else False)
            if known in self.changes.added or known in self.changes.conffiles:
                return None
        return test_entry(operator, self.find_entry(path, follow=not plain))

    def has_package(self, name: str) -> bool | None:
        """Tell whether dpkg's database has a package; one that comes or changes isn't known."""
        moving = any(key.name == name for key in self.changes.packages)
        return None if moving else ask(QUERIES, self.tree, ("dpkg", "--list", name))

    def reach(self, command: Reached) -> bool | None:
        """Tell whether a query of the system's databases succeeds."""
        known = [word for word in command.words if word is not None]
        complete = len(known) == len(command.words)
        answer = ask(QUERIES, self.tree, known) if complete and self._holds(known) else None
        self.note(command)
        return answer

    def note(self, command: Reached) -> None:
        """Remember what a command may have changed."""
        self._moved.update(self.resolve(path) for path in written_paths(command))

    def read_output(self, words: Sequence[Value]) -> str | None:
        """Return what a command prints that only asks for what stays as it is."""
        known = [word for word in words if word is not None]
        output = OUTPUTS.get(known[0].rpartition("/")[2]) if known and len(known) == len(words) else None
        held = bool(known) and (known[0] in _DATABASES or self._holds(known))
        if output is None or not held or not self.has_program(known[0]):
            return None
        try:
            return output(self.tree, known[1:])
        except (ImageError, ValueError, IndexError):
            return None

    def _holds(self, words: Sequence[str], *, deep: bool = False) -> bool:
        """Tell whether all paths among some words (`deep`: and below) stay as they are in the whole installation."""
        changes = self.changes
        for word in words[1:]:
            if not word.startswith("/"):
                continue
            for path in {self.resolve(word), self.resolve(word, follow=True)}:
                if self._is_unstable(path) or path in changes.news or path in changes.removed:
                    return False
                if deep and any(moved.startswith(f"{path}/") for moved in self._moved):
                    return False
                if deep and changes.below((path,), names_only=True) is not None:
                    return False
        return True

    def find_paths(self, pattern: str) -> tuple[str, ...] | None:
        """Expand a pattern in its last part, where nothing comes or goes in that folder."""
        folder, _, name = pattern.rpartition("/")
        if not folder.startswith("/") or has_pattern(folder) or f"{folder}/".startswith(_VOLATILE):
            return None
        inside = f"{self.resolve(folder, follow=True)}/"
        moving = (self.changes.added, self.changes.removed, self.changes.conffiles, self._moved)
        others = (path for path, scripts in self.unstable.items() if not scripts <= {self._script})
        if any(path.startswith(inside) for paths in (*moving, others) for path in paths):
            return None
        there = _MADE.get(inside[:-1], frozenset()).union(self.names_in(inside[:-1]))
        names = [n for n in there if name.startswith(".") or not n.startswith(".")]
        return sort_paths(f"{folder}/{n}" for n in names if matches_glob(n, name))

    def find_source(self, path: str) -> str | None:
        """Return a script that is in the image and stays as it is."""
        if not path.startswith("/"):
            return None
        canonical = self.resolve(path, follow=True)
        moving = self.changes.changed | self.changes.added | self.changes.removed | self.changes.conffiles
        if canonical in moving or self._is_unstable(canonical):
            return None
        try:
            return self.tree.read(canonical, limit=MAX_SOURCE).decode("utf-8")
        except (FileNotFoundError, ImageError, UnicodeDecodeError):
            return None

    def is_settled(self, words: Sequence[str]) -> bool | None:
        """Tell whether running a command would change nothing."""
        held = words[0] in _DATABASES or self._holds(words, deep=True)
        return TreeSurroundings.is_settled(self, words) if held else None


def written_paths(command: Reached) -> set[str]:
    """Return the paths that a command may change, as far as they are known."""
    words = command.words[1:] if command.words[0] in FILE_CHANGERS else ()
    paths = [word for word in (*words, *command.writes) if word and not word.startswith("-")]
    known = [word for word in paths if word.startswith("/") or command.directory is not None]
    return {word if word.startswith("/") else posixpath.join(command.directory or "", word) for word in known}


def _program_paths(name: str) -> Sequence[str]:
    return [name] if "/" in name else [f"/{folder}/{name}" for folder in PROGRAM_FOLDERS]


def sort_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Return paths in the shell's order, by bytes."""
    return tuple(sorted(paths, key=lambda path: path.encode("utf-8", "surrogateescape")))


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
