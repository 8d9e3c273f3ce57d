# SPDX-License-Identifier: Apache-2.0
"""
One command of a maintainer script: does it matter that nobody runs it?

There are two measures. A command of a script that has already run in this image (`repeated`) has done to the system
what it does, so only what depends on the packages' files counts. Any other command has to be known. Whatever a
handler reproduces becomes an `Action`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from copacetic.unpack.scripts.changes import ChangeSet
from copacetic.unpack.scripts.commands import (
    ATTRIBUTES,
    DERIVERS,
    FILE_CHANGERS,
    IDEMPOTENT,
    INSPECTING,
    QUERIES,
    READING,
    SERVICES,
    Deriver,
)
from copacetic.unpack.scripts.judgement import HARMLESS, Action, Judgement, needs_execution
from copacetic.unpack.scripts.shell.expansion import Value
from copacetic.unpack.scripts.shell.interpret import CONFMODULE, PROGRAM_SEARCHES, Reached
from copacetic.updates import ScriptClass

__all__ = ["CommandJudge", "Rule"]

Rule = Callable[[Sequence[Value], bool, bool], Judgement]
"""Judges a command's words; the flags are `repeated` and `certain`."""


class Settled(Protocol):
    """Tells whether a command would find its work done already; None when that can't be told."""

    def is_settled(self, words: Sequence[str]) -> bool | None: ...

    def resolve(self, path: str) -> str: ...

    def has_program(self, name: str) -> bool | None: ...

    def test_file(self, operator: str, path: str) -> bool | None: ...


@dataclass(slots=True)
class CommandJudge:
    """Judges commands against what the packages change and what the image has."""

    changes: ChangeSet
    image: Settled
    package: str = ""

    def judge(self, command: Reached, *, repeated: bool) -> Judgement:
        """Judge a command with its redirections."""
        judgement = self._words(command.words, repeated=repeated, certain=command.certain)
        if judgement.verdict is ScriptClass.NEEDS_EXECUTION:
            return judgement
        for target in command.writes:
            found = self._changed_path(target, repeated=repeated, what="writes")
            if found is not None:
                return found
        return judgement

    def _words(self, words: Sequence[Value], *, repeated: bool, certain: bool) -> Judgement:
        words = () if words[0] in PROGRAM_SEARCHES and "-p" not in words else _unwrap(words)
        if not words:
            return HARMLESS
        program = words[0]
        if program is None:
            return HARMLESS if repeated else needs_execution("what it runs is not known")
        name = program.rpartition("/")[2]
        operation = next((w for w in words[1:] if w is not None and w.startswith("-")), "")
        if name in INSPECTING or name in SERVICES or name.startswith("db_"):
            return HARMLESS
        if not QUERIES.get(name, frozenset()).isdisjoint(("", operation, _subcommand(words))):
            return HARMLESS
        rule = self.find_rule(name)
        if rule is not None:
            return rule(words, repeated, certain)
        if self.image.has_program(program) is False and self.changes.below((_bare(program),)) is None:
            return Judgement(ScriptClass.HARMLESS, f"{name} is not in the image")
        if name in DERIVERS:
            return self._derive(name, DERIVERS[name])
        if name in READING:
            return self._reading(name, words, repeated=repeated)
        if name in FILE_CHANGERS or name in ATTRIBUTES:
            return self._changer(name, words, repeated=repeated, certain=certain)
        if name in IDEMPOTENT:
            return HARMLESS if repeated else self._unsettled(name, words)
        return self.judge_unknown(name, program, words, repeated=repeated)

    # -- kinds of commands -----------------------------------------------------------------------------------

    def _derive(self, name: str, deriver: Deriver) -> Judgement:
        if deriver.rebuilt:
            return Judgement(ScriptClass.HARMLESS, deriver.rebuilt)
        path = self.changes.below(deriver.inputs, names_only=deriver.names_only)
        if path is None:
            return HARMLESS
        return needs_execution(f"{name} has to be run, as {path} changes")

    def _reading(self, name: str, words: Sequence[Value], *, repeated: bool) -> Judgement:
        if name == "xargs":
            inner = [word for word in words[1:] if word is None or not word.startswith("-")]
            return self._words([*inner, None], repeated=repeated, certain=False) if inner else HARMLESS
        in_place = name in ("sed", "perl") and any(
            word is not None and (word == "--in-place" or ("i" in word and word[0] == "-" and word[1:2] != "-"))
            for word in words[1:]
        )
        if name == "perl" and any('exec "/usr/bin/mandb"' in word for word in words if word is not None):
            return self._derive("mandb", DERIVERS["mandb"])
        deletes = name == "find" and any(word in ("-delete", "-exec", "-execdir", "-ok") for word in words)
        if in_place or deletes:
            return self._changer(name, words, repeated=repeated, certain=False)
        if not repeated and (name == "perl" or any(_WRITING.search(word) for word in words if word is not None)):
            return needs_execution(f"{name} may do anything")
        return HARMLESS

    def _changer(self, name: str, words: Sequence[Value], *, repeated: bool, certain: bool) -> Judgement:
        operands = [word for word in words[1:] if word is None or not word.startswith("-")]
        if name in ATTRIBUTES:
            return self._attributes(name, operands, repeated=repeated, words=words)
        written = operands[-1:] if name in _COPIERS else operands
        for operand in written:
            found = self._changed_path(operand, repeated=repeated, what=name, words=words, certain=certain)
            if found is not None:
                return found
        for operand in operands[:-1] if repeated and name in ("cp", "install") else ():
            if operand is not None and self.image.resolve(operand) in self.changes.news:
                return needs_execution(f"{name}: copies {operand}, which changes")
        return HARMLESS

    def _attributes(self, name: str, operands: Sequence[Value], *, repeated: bool, words: Sequence[Value]) -> Judgement:
        """What an unchanged script makes of a packaged file's mode, owner and capabilities is there already."""
        known = tuple(word for word in operands if word is not None and word.startswith("/"))
        packaged = tuple(path for path in map(self.image.resolve, known) if path in self.changes.files)
        if not repeated:
            return HARMLESS if self.is_settled(words) else needs_execution(f"{name} may change attributes")
        if name == "setcap" and not packaged:
            packaged = tuple(sorted(self.changes.files)) if None in operands else ()
        if not packaged:
            return HARMLESS
        return Judgement(
            ScriptClass.REPRODUCED,
            f"{name}: the file keeps the attributes that the same script gave it",
            (Action("attributes", packaged, self.package),),
        )

    def _changed_path(
        self,
        operand: Value,
        *,
        repeated: bool,
        what: str,
        words: Sequence[Value] = (),
        certain: bool = False,
    ) -> Judgement | None:
        """Judge a path that is written, created or removed; None when that makes no difference."""
        if repeated:
            if operand is None or not operand.startswith("/"):
                return None
            path = self.image.resolve(operand)
            packaged = path in self.changes.files
            return needs_execution(f"{what}: changes {path}, a file of the package") if packaged else None
        if operand is not None and operand.startswith(("/dev/", "/proc/", "/sys/", "/run/", "/tmp/")):
            return None
        if words and self.is_settled(words):
            return None
        known = tuple(word for word in words if word is not None)
        if what == "rm" and certain and len(known) == len(words):
            return Judgement(ScriptClass.REPRODUCED, "rm is reproduced", (Action("remove", known[1:], self.package),))
        return needs_execution(f"{what}: changes {operand if operand is not None else 'a file that is not known'}")

    def _unsettled(self, name: str, words: Sequence[Value]) -> Judgement:
        return HARMLESS if self.is_settled(words) else needs_execution(f"{name} may change the system's state")

    def is_settled(self, words: Sequence[Value]) -> bool:
        known = [word for word in words if word is not None]
        return len(known) == len(words) and self.image.is_settled(known) is True

    def judge_unknown(self, name: str, program: str, words: Sequence[Value], *, repeated: bool) -> Judgement:
        if not repeated:
            return needs_execution(f"{name} is not known")
        for word in words:
            if word is None or not (word.startswith("/") or word == program):
                continue
            path = self._program_path(word) if word == program else self.image.resolve(word)
            if path in self.changes.changed or path in self.changes.added:
                return needs_execution(f"{name} is not known, and {path} changes")
        return HARMLESS

    def _program_path(self, program: str) -> str:
        if program.startswith("/"):
            return self.image.resolve(program)
        paths = (self.image.resolve(f"/{folder}/{program}") for folder in _FOLDERS)
        return next((path for path in paths if path in self.changes.changed), "")

    # -- commands with a rule of their own -------------------------------------------------------------------

    def find_rule(self, name: str) -> Rule | None:
        """Return the rule of a command that has one of its own, whatever the tables say."""
        if name == "ldconfig":
            return self.do_ldconfig
        return self.do_source if name in (".", "source", "eval") else None

    def do_ldconfig(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        return Judgement(ScriptClass.REPRODUCED, "ldconfig is reproduced", (Action("ldconfig"),))

    def do_source(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        source = words[1] if len(words) > 1 else None
        if source == CONFMODULE:
            return HARMLESS
        if not repeated:
            return needs_execution(f"it reads more commands from {source or 'a file'}")
        if source is not None and self.image.resolve(source) in self.changes.news:
            return needs_execution(f"it reads more commands from {source}, which changes")
        return HARMLESS


_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_WRITING = re.compile(r"\bsystem *\(|[>|] *\"|-fprint|^-o$")
"""Parts of awk's, find's and sort's arguments that write files or run programs."""
_COPIERS = frozenset(("cp", "install", "ln"))
_WRAPPERS = frozenset(("env", "nice", "ionice", "command", "exec", "nohup", "builtin", "time"))
_USER_WRAPPERS = frozenset(("setpriv", "runuser"))


def _unwrap(words: Sequence[Value]) -> Sequence[Value]:
    """Take `env`, `nice` and the like off."""
    if words and words[0] in _USER_WRAPPERS and "--" in words:
        return words[words.index("--") + 1 :]
    while words and words[0] in _WRAPPERS:
        rest = list(words[1:])
        while rest and rest[0] is not None and (rest[0].startswith("-") or "=" in rest[0]):
            rest.pop(0)
        words = rest
    return words


def _subcommand(words: Sequence[Value]) -> str:
    return next((word for word in words[1:] if word is not None and not word.startswith("-")), "")


def _bare(program: str) -> str:
    return program.lstrip("/") if "/" in program else f"usr/bin/{program}"
