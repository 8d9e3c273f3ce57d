# SPDX-License-Identifier: Apache-2.0
"""
Scripts at the moment at which a package manager would run them: followed command by command, and done in the tree.

A command that every run gets to, and whose words are known, is carried out by the engine, or found to have nothing
left to do. Any other is judged: it may be harmless whatever it does, and it may have been done when the image was made,
by the same script. What is neither makes the package need execution, by name and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec import Struct

from copacetic.errors import ImageError, PackageError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts import effects
from copacetic.scripts.changes import ChangeSet
from copacetic.scripts.commands import ATTRIBUTES, FILE_CHANGERS
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.judge import CommandJudge
from copacetic.scripts.judgement import (
    FAILS,
    HARMLESS,
    Harmless,
    Judgement,
    NeedsExecution,
    Reproduced,
    at_line,
    describe,
)
from copacetic.scripts.live import LiveImage
from copacetic.scripts.repetition import Past, Ran
from copacetic.scripts.shell.interpret import Reached, follow_script
from copacetic.scripts.shell.parser import is_bash, parse_shell
from copacetic.scripts.shell.syntax import ShellSyntaxError
from copacetic.updates import PackageKey, ScriptVerdict

__all__ = ["Dialect", "ScriptCall", "ScriptRun", "ScriptRunner"]

MAX_SCRIPT = 1024 * 1024
NO_SHELL = "this image has no shell: no script ever ran in it"
_SHEBANG = re.compile(r"#! ?(/\S+)(?: +(\S+))?")
_SHELL = "bin/sh"
_SHELLS = frozenset(("sh", "ash", "dash", "bash"))
_ERREXIT = re.compile(r"\A#!.*\s-[a-z]*e|^[ \t]*set[ \t]+-[a-z]*e|\bset -o errexit\b", re.MULTILINE)
"""A script that ends with the first command that fails."""
_MASKED = frozenset(("mkdir", "touch"))


class Dialect(Struct, frozen=True):
    """What a family's scripts have of their own."""

    judge: type[CommandJudge]
    readers: Mapping[str, Callable[[ScriptRun, list[str]], effects.Reading]]
    """Say what commands do that change more than the files that they name."""
    mark: Callable[[str], str]
    """Puts one word in the place of each part of a script that is known as a whole; lines keep their numbers."""


class ScriptCall(Struct, frozen=True):
    """A script that a package manager would run."""

    package: PackageKey
    name: str
    """pre-upgrade, post-upgrade, trigger, …"""
    text: str
    arguments: tuple[str, ...]
    before: Iterable[tuple[str, tuple[str, ...]]] = ()
    """The scripts that ran when the version was installed that is in the image, and their arguments; asked for once."""
    may_fail: bool = False
    """The package manager goes on where it ends with an error."""
    built_in: bool = False
    """The package manager itself does what is in it: no shell and no program of the image is needed."""


@dataclass(slots=True)
class ScriptRunner:
    """Follows scripts over the engine's tree."""

    dialect: Dialect
    engine: ScriptEngine
    image: ImageFilesystem
    """As it was before anything was done."""
    scheme: str

    @property
    def tree(self) -> TreeBuilder:
        return self.engine.tree

    def run(self, call: ScriptCall) -> ScriptVerdict:
        """Do what a script does, and say what that came to."""
        runnable = call.built_in or self._has_interpreter(call.text)
        if runnable is None:
            judgement: Judgement = NeedsExecution("it is not a shell script")
        elif not runnable and self.tree.lookup(_SHELL) is not None:
            judgement = NeedsExecution("the image lacks the shell that it asks for")
        else:
            judgement = self._follow(call, runnable=runnable)
        return describe(call.package, call.name, judgement)

    def _has_interpreter(self, text: str) -> bool | None:
        """Tell whether the image has the shell that a script asks for; None for a script in another language."""
        match = _SHEBANG.match(text)
        if match is None or len(text) > MAX_SCRIPT:
            return None
        program = match[1].rpartition("/")[2]
        if program in ("busybox", "env"):
            program = match[2] or ""
        if program not in _SHELLS:
            return None
        return self.tree.lookup(match[1].lstrip("/")) is not None

    def _follow(self, call: ScriptCall, *, runnable: bool) -> Judgement:
        live = LiveImage(self.tree, self.scheme)
        run = ScriptRun(self, call, live, runnable=runnable)
        live.on_command = run.meet
        try:
            bash = is_bash(call.text)
            nodes = parse_shell(self.dialect.mark(call.text), bash=bash)
            followed = follow_script(nodes, arguments=call.arguments, variables={}, surroundings=live, bash=bash)
        except ShellSyntaxError as error:
            return NeedsExecution(str(error))
        return run.sum_up(fails=runnable and followed.succeeds is False and not call.may_fail)


@dataclass(slots=True)
class ScriptRun:
    """One script on its way."""

    runner: ScriptRunner
    call: ScriptCall
    live: LiveImage
    runnable: bool
    met: list[tuple[Reached, Judgement]] = field(default_factory=list)
    done: list[tuple[str, effects.Effect]] = field(default_factory=list)
    """The commands that made a difference, by their names."""
    _judge: CommandJudge | None = None
    _past: Past = field(init=False)

    def __post_init__(self) -> None:
        self._past = Past(self._runs())

    def meet(self, command: Reached) -> bool | None:
        """Do a command, or judge it; returns whether it succeeds."""
        known = [word for word in command.words if word is not None]
        if command.words[0] == "cd" and known[1:] != ["/"]:
            self.live.at_root = False
        plain = command.certain and not command.writes and len(known) == len(command.words)
        if not self.runnable and command.words[0] not in ("ldconfig", "/sbin/ldconfig"):
            self.met.append((command, HARMLESS))
            return None
        effect = self.read(known, bare=self.call.built_in) if plain else None
        done = effect if effect is None or isinstance(effect, effects.Done) else self._perform(effect)
        if done is None:
            self.met.append((command, self._judge_command(command, plain=plain)))
            return None
        if done.changed and not isinstance(effect, effects.Done | None):
            self.done.append((known[0].rpartition("/")[2], effect))
        ends = done.succeeds is False and _ERREXIT.search(self.call.text) is not None
        self.met.append((command, NeedsExecution("it fails, and the script may end there") if ends else HARMLESS))
        return done.succeeds

    def _perform(self, effect: effects.Effect) -> effects.Done | None:
        try:
            return self.runner.engine.perform(effect)
        except (ImageError, PackageError):
            return None

    def read(self, words: list[str], *, bare: bool = False) -> effects.Reading:
        """
        Return what a command does, or what it comes to where that is nothing; None where neither is known. A `bare`
        one is busybox's, and needs no link of its own.
        """
        name = words[0].rpartition("/")[2]
        if name == "cd":
            return effects.Done(None)
        if name in _MASKED and "umask" in self.call.text:
            return None
        if name == "ldconfig":
            known = all(word.startswith("/") or word == "-X" for word in words[1:])
            return effects.UpdateLibraryCache(links="-X" not in words) if known else None
        reader = self.runner.dialect.readers.get(name)
        if reader is not None:
            return reader(self, words)
        if name not in effects.FILE_COMMANDS:
            return None
        if not bare and self.live.find_program(words[0]) is None:
            return effects.Done(succeeds=False)
        try:
            return effects.read_file_effect(self.live, words)
        except ImageError:
            return None

    def _judge_command(self, command: Reached, *, plain: bool) -> Judgement:
        if self._judge is None:
            self._judge = self.runner.dialect.judge(
                ChangeSet.since(self.runner.tree), self.live, str(self.call.package)
            )
        name = (command.words[0] or "").rpartition("/")[2]
        judgement = self._judge.judge(command, repeated=False)
        # What would be done to a file for certain is known not to have been done.
        certain = plain and (name in FILE_CHANGERS or name in ATTRIBUTES)
        if not isinstance(judgement, Harmless) and not certain and self._past.has(command):
            judgement = self._judge.judge(command, repeated=True)
        if isinstance(judgement, Reproduced):  # by a handler of another format, or of what couldn't be done
            return NeedsExecution(f"{name} would have to be run")
        return judgement

    def _runs(self) -> Iterator[Ran]:
        """Yield what ran when the installed version was installed."""
        for text, arguments in self.call.before:
            bash = is_bash(text)
            around = LiveImage(self.runner.tree, self.runner.scheme)
            with suppress(ShellSyntaxError):
                nodes = parse_shell(self.runner.dialect.mark(text), bash=bash)
                followed = follow_script(nodes, arguments=arguments, variables={}, surroundings=around, bash=bash)
                yield Ran.of(followed.commands, (*self.call.arguments, *arguments))

    def sum_up(self, *, fails: bool) -> Judgement:
        """Return what the script came to: the command that decides, or what was done."""
        for command, judgement in self.met:
            if isinstance(judgement, NeedsExecution):
                return at_line(self.call.text, command.line, judgement)
        if fails:
            return FAILS
        if self.done:
            names = dict.fromkeys(name for name, _ in self.done)
            first, *others = (effect for _, effect in self.done)
            return Reproduced(f"reproduced: {', '.join(names)}", (first, *others))
        if not self.runnable:
            return Harmless(NO_SHELL)
        notes = list(dict.fromkeys(judgement.reason for _, judgement in self.met if judgement.reason))
        said = "nothing in it has an effect in this image" if self.met else "nothing in it is reached"
        return Harmless("; ".join([said, *notes]))
