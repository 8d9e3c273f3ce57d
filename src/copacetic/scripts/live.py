# SPDX-License-Identifier: Apache-2.0
"""
What a script finds around it at the moment at which apk would run it: the tree as it is by then.

Packages are installed one after the other into this tree, and what scripts do is done in it, in the same order. So an
answer is exact, except about what no image holds (`/proc`, `/dev`) and about files whose content isn't at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from copacetic.errors import ImageError, InvalidVersionError
from copacetic.glob import matches_glob
from copacetic.scripts.outputs import OUTPUTS
from copacetic.scripts.shell.expansion import Value, has_pattern
from copacetic.scripts.shell.interpret import Reached
from copacetic.scripts.surroundings import TreeSurroundings, sort_paths, test_entry
from copacetic.version import compare_versions

__all__ = ["LiveImage"]

MAX_SOURCE = 256 * 1024
MAX_MATCHES = 4096
MAX_LOOKED = 500_000
"""Names of folders that are held against patterns, for one script."""
_ASKING = frozenset(("apk", "basename", "command", "dirname", "echo", "readlink", "which"))
_BUILT_IN = frozenset(("command", "echo", "which"))
_ELSEWHERE = ("dev", "proc", "sys")
"""Folders in which the machine that runs a container puts things of its own."""


@dataclass(slots=True)
class LiveImage(TreeSurroundings):
    """Answers about the tree as it is."""

    scheme: str
    """The order of versions that the image's apk has."""
    on_command: Callable[[Reached], bool | None] = field(default=lambda _command: None)
    """Does what a command does, and tells whether it succeeds."""
    at_root: bool = True
    """Whether the script is still in the root directory, in which apk starts it."""
    _looked: int = 0

    def spell(self, path: str) -> str | None:
        """Return a path as the tree has it, not resolved; None for one that isn't known or isn't of the image."""
        return None if has_pattern(path) else self.spell_literal(path)

    def spell_literal(self, path: str) -> str | None:
        """Return a path in which `*` stands for itself."""
        plain = path.strip("/")
        known = path.startswith("/") or self.at_root
        return plain if known and plain.partition("/")[0] not in _ELSEWHERE else None

    def spell_all(self, operands: Sequence[str]) -> tuple[str, ...] | None:
        """Return operands as paths of the tree, with patterns expanded; None when one isn't of the image."""
        found: list[str] = []
        for operand in operands:
            matches = self.find_paths(operand) if has_pattern(operand) else (operand,)
            if matches is None:
                return None
            for match in matches or (operand,):  # a pattern that matches nothing stands for itself
                plain = self.spell_literal(match)
                if plain is None:
                    return None
                found.append(plain)
        return tuple(found)

    def reach(self, command: Reached) -> bool | None:
        return self.on_command(command)

    def test_file(self, operator: str, path: str) -> bool | None:
        """Answer what `test` asks about a file."""
        if has_pattern(path):
            # A pattern that matched nothing stands for itself.
            return False if self.find_paths(path) == () else None
        plain = self.spell(path)
        if plain is None:
            return None
        entry = self.find_entry(plain, follow=operator not in ("-L", "-h"))
        if operator == "-x" and entry is not None:
            return bool(entry.mode & 0o111)  # busybox asks this of directories, too
        return test_entry(operator, entry)

    def find_source(self, path: str) -> str | None:
        """Return the text of a file with more commands."""
        plain = self.spell(path)
        try:
            return None if plain is None else self.tree.read(plain, limit=MAX_SOURCE).decode("utf-8")
        except (FileNotFoundError, ImageError, UnicodeDecodeError):
            return None

    def find_paths(self, pattern: str) -> tuple[str, ...] | None:
        """Expand a pattern as the shell does, sorted by bytes."""
        if (not pattern.startswith("/") and not self.at_root) or self._looked > MAX_LOOKED:
            return None
        found = [""]
        for part in pattern.strip("/").split("/"):
            if part in _ELSEWHERE and found == [""]:
                return None
            folders, found = found, []
            for above in folders:
                found += self._matches(above, part)
                if len(found) > MAX_MATCHES or self._looked > MAX_LOOKED:
                    return None
        lead = "/" if pattern.startswith("/") else ""
        return sort_paths(f"{lead}{path[1:]}" for path in found)

    def _matches(self, above: str, part: str) -> list[str]:
        if not has_pattern(part):
            path = f"{above}/{part}"
            return [path] if self.find_entry(path[1:], follow=False) is not None else []
        hidden = part.startswith(".")
        names = self.names_in(above[1:])
        self._looked += len(names)
        shown = (name for name in names if hidden or not name.startswith("."))
        return [f"{above}/{name}" for name in shown if matches_glob(name, part)]

    def read_output(self, words: Sequence[Value]) -> str | None:
        """Return what a command prints that only asks."""
        known = [word for word in words if word is not None]
        if len(known) < len(words) or not known:
            return None
        name, *rest = known
        if name.rpartition("/")[2] not in _ASKING:
            return None
        try:
            return self._print(name.rpartition("/")[2], rest)
        except (ImageError, InvalidVersionError):
            return None

    def _print(self, name: str, words: list[str]) -> str | None:
        operands = [word for word in words if not word.startswith("-")]
        if name == "echo" and operands == words:
            return " ".join(words)
        if name not in _BUILT_IN and self.find_program(name) is None:
            return ""  # the shell only says that it isn't there
        if name == "apk" and words[:2] in (["version", "-t"], ["version", "-qt"]) and len(words) == 4:
            return "<=>"[compare_versions(self.scheme, words[2], words[3]) + 1]
        if name in ("command", "which") and len(operands) == 1:
            return self.find_program(operands[0]) or ""
        if name in ("basename", "dirname"):
            return OUTPUTS[name](self.tree, words)
        plain = self.spell(operands[0]) if name == "readlink" and len(operands) == 1 else None
        if plain is None:
            return None
        if words[:-1] == ["-f"]:
            return f"/{self.tree.resolve(plain)}"
        return (self.tree.target_of(plain) or "") if len(words) == 1 else ""
