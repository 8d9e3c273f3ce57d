# SPDX-License-Identifier: Apache-2.0
"""
One command of a maintainer script: does it matter that nobody runs it?

There are two measures. A command of a script that has already run in this image (`repeated`) has done to the system
what it does, so only what depends on the packages' files counts. Any other command has to be known. Whatever a
`engine` can do instead is told by an effect.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from copacetic.scripts.changes import ChangeSet
from copacetic.scripts.commands import (
    ATTRIBUTES,
    DERIVERS,
    FILE_CHANGERS,
    IDEMPOTENT,
    INSPECTING,
    QUERIES,
    SERVICE_VERBS,
    SERVICES,
    SHELL_BUILTINS,
    Deriver,
)
from copacetic.scripts.effects import KeepAttributes, RemoveFiles, UpdateLibraryCache
from copacetic.scripts.judgement import HARMLESS, Harmless, Judgement, NeedsExecution, Reproduced, worst
from copacetic.scripts.options import CHANGERS, READERS, parse_options, take_wrapper_off
from copacetic.scripts.reading import find_commands, only_reads
from copacetic.scripts.shell.builtin import DEBCONF
from copacetic.scripts.shell.expansion import Value, has_pattern
from copacetic.scripts.shell.interpret import CONFMODULE, Reached
from copacetic.scripts.shell.machine import ODDITY
from copacetic.scripts.surroundings import PROGRAM_FOLDERS, TreeSurroundings

__all__ = ["CommandJudge", "Rule", "is_plain", "known_words"]

MAX_WRAPPERS = 16
"""Programs that run another one, one in the other."""
Rule = Callable[[Sequence[Value], bool, bool], Judgement]
"""Judges a command's words; the flags are `repeated` and `certain`."""


@dataclass(slots=True)
class CommandJudge:
    """Judges commands against what the packages change and what the image has."""

    changes: ChangeSet
    image: TreeSurroundings
    package: str = ""

    def judge(self, command: Reached, *, repeated: bool) -> Judgement:
        """Judge a command with its redirections."""
        judgement = self._words(command.words, repeated=repeated, certain=command.certain)
        if isinstance(judgement, NeedsExecution):
            return judgement
        for target in command.writes:
            found = self._changed_path(target, repeated=repeated, what="writes")
            if found is not None:
                return found
        return judgement

    def _words(self, words: Sequence[Value], *, repeated: bool, certain: bool, around: int = 0) -> Judgement:
        if words and words[0] == ODDITY:
            return HARMLESS if repeated else NeedsExecution(words[1] or "")
        if words[:1] in (("which",), ("type",)) or not words:
            return HARMLESS
        program = words[0]
        if program is None or _PROGRAM.fullmatch(program) is None:
            return HARMLESS if repeated else NeedsExecution("what it runs is not known")
        inner = take_wrapper_off(words)
        if inner is None:
            return HARMLESS if repeated else NeedsExecution(f"{program} with options that are not known")
        if inner is not words:
            if around == MAX_WRAPPERS:
                return NeedsExecution(f"{program} is one of too many programs around another")
            known = certain and "xargs" not in program
            return self._words(inner, repeated=repeated, certain=known, around=around + 1)
        if not repeated and self._is_own(program):
            return self.judge_unknown(program, program, words, repeated=repeated)
        return self._named(_name(program), words, repeated=repeated, certain=certain)

    def _named(self, name: str, words: Sequence[Value], *, repeated: bool, certain: bool) -> Judgement:
        """Judge a command by its name; it is the distribution's own, or has run before."""
        program = words[0] or name
        operation = next((w for w in words[1:] if w is not None and w.startswith("-")), "")
        if name in INSPECTING or name in SERVICES or name in _DEBCONF:
            return HARMLESS
        asks = QUERIES.get(name, frozenset()) | SERVICE_VERBS.get(name, frozenset())
        if (name in SERVICE_VERBS and len(words) == 1) or not asks.isdisjoint(("", operation, _subcommand(words))):
            return HARMLESS
        if self.image.read_output(words) is not None:
            return HARMLESS
        rule = self.find_rule(name)
        if rule is not None:
            return rule(words, repeated, certain)
        if name in SHELL_BUILTINS:
            return HARMLESS if repeated else NeedsExecution(f"{name} makes the shell do something else")
        if name in DERIVERS and (repeated or name not in SERVICE_VERBS):
            return self._not_there(program) or self._derive(name, DERIVERS[name])
        missing = self._not_there(program) if name not in _BUILT_IN else None
        if missing is not None:
            return missing
        if name in READERS or name in _READERS:
            return self._reading(name, words, repeated=repeated)
        if name in FILE_CHANGERS or name in ATTRIBUTES:
            return self._changer(name, words, repeated=repeated, certain=certain)
        if name in IDEMPOTENT:
            return HARMLESS if repeated else self._unsettled(name, words)
        return self.judge_unknown(name, program, words, repeated=repeated)

    def _not_there(self, program: str) -> Judgement | None:
        if self.image.has_program(program) is False and self.changes.below((_bare(program),)) is None:
            return Harmless(f"{_name(program)} is not in the image")
        return None

    def _is_own(self, program: str) -> bool:
        """Tell whether a program is none of the distribution's, whatever its name says."""
        if "/" in program:
            folder = self.image.resolve(program).rpartition("/")[0] if program.startswith("/") else ""
            return folder not in PROGRAM_FOLDERS and _KNOWN_PATH.fullmatch(program) is None
        return program in self.image.local_programs()

    # -- kinds of commands -----------------------------------------------------------------------------------

    def _derive(self, name: str, deriver: Deriver) -> Judgement:
        if deriver.rebuilt:
            return Harmless(deriver.rebuilt)
        path = self.changes.below(deriver.inputs, names_only=deriver.names_only)
        if path is None:
            return HARMLESS
        return NeedsExecution(f"{name} has to be run, as {path} changes")

    def _reading(self, name: str, words: Sequence[Value], *, repeated: bool) -> Judgement:
        if name == "perl" and any('exec "/usr/bin/mandb"' in word for word in words if word is not None):
            return self._derive("mandb", DERIVERS["mandb"])
        if not repeated:
            return self._reads_only(name, words)
        in_place = name in ("sed", "perl") and any(
            word is not None
            and (word.startswith("--in-place") or ("i" in word and word[0] == "-" and word[1:2] != "-"))
            for word in words[1:]
        )
        deletes = name == "find" and any(word in ("-delete", "-exec", "-execdir", "-ok", "-okdir") for word in words)
        if in_place or deletes:
            return self._changer(name, words, repeated=repeated, certain=False)
        return HARMLESS

    def _reads_only(self, name: str, words: Sequence[Value]) -> Judgement:
        """Judge a program that reads, by every word of it."""
        commands = (
            find_commands(words) if name == "find" else () if name != "perl" and only_reads(name, words) else None
        )
        if commands is None:
            return NeedsExecution(f"{name} may do anything with these words")
        judgements = [self._words(command, repeated=False, certain=False) for command in commands]
        return worst(judgements)

    def _changer(self, name: str, words: Sequence[Value], *, repeated: bool, certain: bool) -> Judgement:
        operands: Sequence[Value] = [word for word in words[1:] if word is None or not word.startswith("-")]
        if name in ATTRIBUTES:
            return self._attributes(name, operands, repeated=repeated, words=words)
        if not repeated:
            return self._changes(name, words, certain=certain)
        for operand in operands[-1:] if name in _COPIERS else operands:
            found = self._changed_path(operand, repeated=repeated, what=name)
            if found is not None:
                return found
        for operand in operands[:-1] if name in ("cp", "install") else ():
            if operand is not None and self.image.resolve(operand) in self.changes.news:
                return NeedsExecution(f"{name}: copies {operand}, which changes")
        return HARMLESS

    def _changes(self, name: str, words: Sequence[Value], *, certain: bool) -> Judgement:
        """Judge a program that changes files, by every word of it."""
        if self.is_settled(words):
            return HARMLESS
        if name in READERS and only_reads(name, words):
            return HARMLESS
        if name == "dd" and None not in words:
            outputs = [word for word in words[1:] if word is not None and word.startswith("of=")]
            if all(self._is_volatile(word[3:]) for word in outputs):
                return HARMLESS
        parsed = parse_options(words[1:], CHANGERS[name], permuted=name != "rm") if name in CHANGERS else None
        if parsed is None or (not parsed.operands and name != "tee"):
            return NeedsExecution(f"{name} with words that are not known")
        last = name == "cp" or (name == "install" and not parsed.has("-d", "--directory"))
        if last and len(parsed.operands) < 2:
            return NeedsExecution(f"{name} with words that are not known")
        for operand in parsed.operands[-1:] if last else parsed.operands:
            if operand is not None and self._is_volatile(operand, pattern=name == "rm"):
                continue
            if name == "rm" and certain and all(self._may_go(path) for path in parsed.operands):
                recursive = parsed.has("-r", "-R", "--recursive")
                return Reproduced(
                    "rm is reproduced", (RemoveFiles(known_words(parsed.operands), recursive, force=True),)
                )
            return NeedsExecution(f"{name}: changes {operand if operand is not None else 'a file that is not known'}")
        return HARMLESS

    def _may_go(self, path: Value) -> bool:
        """Tell whether a path can be removed once the packages are there: it is none of theirs."""
        if path is None or not is_plain(path):
            return False
        canonical = self.image.resolve(path)
        return canonical not in self.changes.files and self.changes.below((canonical,)) is None

    def _is_volatile(self, path: str, *, pattern: bool = False) -> bool:
        """Tell whether a path lies where only the running system keeps something, behind no link of the image's."""
        plain = posixpath.normpath(path)
        inside = path == "/dev/null" or (plain.startswith(_VOLATILE) and not plain.startswith(_DOORS))
        if not inside or (has_pattern(path) and not (pattern and not has_pattern(posixpath.dirname(plain)))):
            return False
        if ".." in path.split("/"):
            return False
        found = f"/{self.image.resolve(plain)}/"
        return found.startswith((*_VOLATILE, "/run/")) and self.image.test_file("-L", plain) is not True

    def _attributes(self, name: str, operands: Sequence[Value], *, repeated: bool, words: Sequence[Value]) -> Judgement:
        """What an unchanged script makes of a packaged file's mode, owner and capabilities is there already."""
        known = tuple(word for word in operands if word is not None and word.startswith("/"))
        packaged = tuple(path for path in map(self.image.resolve, known) if path in self.changes.files)
        if not repeated:
            settled = not packaged and self.is_settled(words)
            return HARMLESS if settled else NeedsExecution(f"{name} may change attributes")
        if name == "setcap" and not packaged:
            packaged = tuple(sorted(self.changes.files)) if None in operands else ()
        if not packaged:
            return HARMLESS
        reason = f"{name}: the file keeps the attributes that the same script gave it"
        return Reproduced(reason, (KeepAttributes(packaged),))

    def _changed_path(self, operand: Value, *, repeated: bool, what: str) -> Judgement | None:
        """Judge a path that is written, created or removed; None when that makes no difference."""
        if not repeated:
            if operand is not None and self._is_volatile(operand):
                return None
            return NeedsExecution(f"{what}: changes {operand if operand is not None else 'a file that is not known'}")
        if operand is None or not operand.startswith("/"):
            return None
        path = self.image.resolve(operand)
        return NeedsExecution(f"{what}: changes {path}, a file of the package") if path in self.changes.files else None

    def _unsettled(self, name: str, words: Sequence[Value]) -> Judgement:
        return HARMLESS if self.is_settled(words) else NeedsExecution(f"{name} may change the system's state")

    def is_settled(self, words: Sequence[Value]) -> bool:
        known = known_words(words)
        return len(known) == len(words) and self.image.is_settled(known) is True

    def judge_unknown(self, name: str, program: str, words: Sequence[Value], *, repeated: bool) -> Judgement:
        if not repeated:
            return NeedsExecution(f"{name} is not known")
        for word in words:
            if word is None or not (word.startswith("/") or word == program):
                continue
            path = self._program_path(word) if word == program else self.image.resolve(word)
            if path in self.changes.changed or path in self.changes.added:
                return NeedsExecution(f"{name} is not known, and {path} changes")
        return HARMLESS

    def _program_path(self, program: str) -> str:
        if program.startswith("/"):
            return self.image.resolve(program)
        paths = (self.image.resolve(f"/{folder}/{program}") for folder in PROGRAM_FOLDERS)
        return next((path for path in paths if path in self.changes.changed), "")

    # -- commands with a rule of their own -------------------------------------------------------------------

    def find_rule(self, name: str) -> Rule | None:
        """Return the rule of a command that has one of its own, whatever the tables say."""
        if name == "ldconfig":
            return self.do_ldconfig
        return self.do_source if name in (".", "source", "eval") else None

    def do_ldconfig(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        return Reproduced("ldconfig is reproduced", (UpdateLibraryCache(),))

    def do_source(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        source = words[1] if len(words) > 1 else None
        if source == CONFMODULE:
            return HARMLESS
        if not repeated:
            return NeedsExecution(f"it reads more commands from {source or 'a file'}")
        if source is not None and self.image.resolve(source) in self.changes.news:
            return NeedsExecution(f"it reads more commands from {source}, which changes")
        return HARMLESS


_COPIERS = frozenset(("cp", "install", "ln"))
_READERS = frozenset(("find", "perl", "gawk", "mawk"))
_DEBCONF = frozenset(f"db_{verb}" for verb in DEBCONF.split())
_BUILT_IN = frozenset(("hash",))
_PROGRAM = re.compile(r"[A-Za-z0-9_.+@/][A-Za-z0-9_.+@/-]*|:|\[\[?|\{")
_KNOWN_PATH = re.compile(
    r"/usr/lib/jvm/[^/]+/(?:jre/)?bin/java|/usr/lib/emacsen-common/emacs-(?:package-)?(?:install|remove)"
    r"|(?:/usr)?/lib/runit-helper/runit-helper|/usr/share/(?:libgcrypt20|glib-2\.0)/clean-up-unmanaged-libraries"
    r"|/usr/lib/[^/]+/(?:gdk-pixbuf-2\.0|libgtk-3-0(?:t64)?|glib-2\.0)/(?:gdk-pixbuf-query-loaders|gio-querymodules"
    r"|gtk-query-immodules-3\.0|glib-compile-schemas)"
)
"""Programs outside of the usual folders that are known by their names nevertheless."""
_VOLATILE = ("/proc/sys/", "/sys/", "/dev/", "/run/", "/var/run/", "/tmp/")
_DOORS = ("/dev/fd/", "/dev/mqueue/", "/dev/stdin")
"""Paths there that lead elsewhere."""


def is_plain(path: Value) -> bool:
    return path is not None and path.startswith("/") and not has_pattern(path) and ".." not in path.split("/")


def known_words(words: Sequence[Value]) -> tuple[str, ...]:
    return tuple(word for word in words if word is not None)


def _name(program: str) -> str:
    return program.rpartition("/")[2]


def _subcommand(words: Sequence[Value]) -> str:
    return next((word for word in words[1:] if word is not None and not word.startswith("-")), "")


def _bare(program: str) -> str:
    return program.lstrip("/") if "/" in program else f"usr/bin/{program}"
