# SPDX-License-Identifier: Apache-2.0
"""
Maintainer scripts, judged instead of run.

An upgrade runs the old `prerm upgrade`, the new `preinst upgrade`, the old `postrm upgrade` and the new `postinst
configure` (Debian policy, chapter 6). Each is followed with these arguments to find the commands that it can reach.
A script that reaches the same commands as the one that is installed has done its work in this image; its commands
only matter where they depend on the packages' files. Every script gets a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from copacetic.unpack.deb.judge import DebJudge
from copacetic.unpack.deb.recognised import normalise_script, recognise_script
from copacetic.unpack.scripts.changes import ChangeSet
from copacetic.unpack.scripts.commands import ATTRIBUTES, BYTE_COMPILERS, DERIVERS, FILE_CHANGERS
from copacetic.unpack.scripts.judgement import FAILS, Action, Judgement, worst
from copacetic.unpack.scripts.shell.interpret import Followed, Reached, Surroundings, follow_script
from copacetic.unpack.scripts.shell.parser import is_bash, parse_shell
from copacetic.unpack.scripts.shell.syntax import ShellSyntaxError
from copacetic.unpack.scripts.surroundings import ImageSurroundings
from copacetic.updates import ScriptClass, ScriptVerdict

__all__ = ["JudgedScript", "ScriptJudge", "ScriptSet"]

MAX_SCRIPT = 1024 * 1024
_SHELL = re.compile(r"#! ?/(?:usr/)?bin/(?:env )?(?:ba|da|)sh\b")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_TELLTALE = (
    frozenset(DERIVERS)
    | ATTRIBUTES
    | BYTE_COMPILERS
    | {"update-ca-certificates", "ldconfig", "update-alternatives", "py_compile", "dpkg-divert"}
)
ANSWERED = "only asks debconf's questions (debconf-devel(7)), and this image has its answers"
NEVER_RUN = "not run by this upgrade"


@dataclass(frozen=True, slots=True)
class ScriptSet:
    """The scripts of one package, before and after."""

    key: str
    name: str
    architecture: str
    old_version: str
    """Empty for a package that comes in new."""
    new_version: str
    old: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgedScript:
    """A verdict, and what to do instead of running the script."""

    verdict: ScriptVerdict
    actions: tuple[Action, ...] = ()
    triggers: tuple[str, ...] = ()
    """Names that the script activates with dpkg-trigger."""


@dataclass(slots=True)
class ScriptJudge:
    """Judges the scripts of packages that are installed together."""

    surroundings: ImageSurroundings
    changes: ChangeSet

    def judge_package(self, scripts: ScriptSet) -> list[JudgedScript]:
        """Judge all scripts of a package, in the order in which an upgrade runs them."""
        judged: list[JudgedScript] = []
        upgrade = scripts.old_version != ""
        if upgrade:
            judged += self._pair(scripts, "prerm", ("upgrade", scripts.new_version), runs=scripts.old)
        first = ("upgrade", scripts.old_version, scripts.new_version) if upgrade else ("install",)
        judged += self._pair(scripts, "preinst", first, runs=scripts.new)
        if upgrade:
            judged += self._pair(scripts, "postrm", ("upgrade", scripts.new_version), runs=scripts.old)
        if upgrade and "config" in scripts.old and "config" in scripts.new:
            judged.append(_verdict(scripts, "config", Judgement(ScriptClass.HARMLESS, ANSWERED)))
        else:
            judged += self._pair(scripts, "config", ("configure", scripts.old_version), runs=scripts.new)
        judged += self._pair(scripts, "postinst", ("configure", scripts.old_version), runs=scripts.new)
        for name in ("prerm", "postrm"):
            if name in scripts.new and name not in scripts.old:
                judged.append(_verdict(scripts, name, Judgement(ScriptClass.HARMLESS, NEVER_RUN)))
        return judged

    def judge_triggered(self, scripts: ScriptSet, triggers: Sequence[str], *, unchanged: str = "") -> JudgedScript:
        """
        Judge what an interested package's postinst does about triggers; nothing of it counts as done before.

        `unchanged` is a path that set the trigger off although nothing below is different.
        """
        text = scripts.new.get("postinst", "")
        label = " ".join(triggers)
        if unchanged:
            reason = f"nothing below {unchanged} is different afterwards"
            return _verdict(scripts, label, Judgement(ScriptClass.HARMLESS, reason))
        if not text:
            return _verdict(scripts, label, Judgement(ScriptClass.HARMLESS, "nothing to run"))
        judgement, names = self._follow(scripts, "postinst", text, ("triggered", label), repeated=False)
        return _verdict(scripts, label, judgement, names)

    def unstable_paths(self, packages: Sequence[ScriptSet]) -> set[str]:
        """Return the paths that any of the scripts may create or remove, whatever the state of the image."""
        found: set[str] = set()
        for scripts in packages:
            for text in (*scripts.old.values(), *scripts.new.values()):
                found |= _written_paths(text)
        return {self.surroundings.resolve(path) for path in found}

    # -- inside ----------------------------------------------------------------------------------------------

    def _pair(
        self, scripts: ScriptSet, name: str, arguments: tuple[str, ...], *, runs: Mapping[str, str]
    ) -> list[JudgedScript]:
        text = runs.get(name)
        if text is None:
            return []
        recognised = recognise_script(scripts.name, name, text) if runs is scripts.new else None
        if recognised is not None:
            return [_verdict(scripts, name, recognised)]
        other = (scripts.new if runs is scripts.old else scripts.old).get(name)
        repeated = other is not None and self._is_same(scripts, name, text, other, arguments)
        if name == "postinst" and "db_get" in text and self._answers_otherwise(scripts):
            repeated = False
        judgement, triggers = self._follow(scripts, name, text, arguments, repeated=repeated)
        return [_verdict(scripts, name, judgement, triggers)]

    def _answers_otherwise(self, scripts: ScriptSet) -> bool:
        """Tell whether the package's config script gives debconf other answers than the one that has run."""
        old, new = scripts.old.get("config", ""), scripts.new.get("config", "")
        arguments = ("configure", scripts.old_version)
        if not new or self._is_same(scripts, "config", new, old, arguments):
            return False
        try:
            commands = self._reach(scripts, "config", new, arguments).commands
        except ShellSyntaxError:
            return True
        return any(command.words[0] == "db_set" for command in commands)

    def _follow(
        self, scripts: ScriptSet, name: str, text: str, arguments: tuple[str, ...], *, repeated: bool
    ) -> tuple[Judgement, tuple[str, ...]]:
        try:
            followed = self._reach(scripts, name, text, arguments)
        except ShellSyntaxError as error:
            return _judge_unread(text, str(error), repeated=repeated), ()
        judge = DebJudge(
            changes=self.changes,
            image=self.surroundings,
            package=scripts.key,
            installed_version=scripts.old_version,
            precedes=lambda left, right: self.surroundings.compare_versions(left, "le-nl", right),
        )
        lines = text.split("\n")
        judgements: list[Judgement] = []
        for command in followed.commands:
            judgement = judge.judge(command, repeated=repeated)
            if judgement.verdict is ScriptClass.NEEDS_EXECUTION:
                line = lines[command.line - 1].strip() if command.line <= len(lines) else ""
                return Judgement(judgement.verdict, f"line {command.line}, {line[:120]!r}: {judgement.reason}"), ()
            judgements.append(judgement)
        if followed.succeeds is False:
            return FAILS, ()
        actions = tuple(dict.fromkeys(action for judgement in judgements for action in judgement.actions))
        reason = worst(judgements).reason
        if worst(judgements).verdict is ScriptClass.HARMLESS:
            reason = _describe(judgements, repeated=repeated, commands=followed.commands)
        return Judgement(worst(judgements).verdict, reason, actions), _activated(followed.commands)

    def _reach(self, scripts: ScriptSet, name: str, text: str, arguments: tuple[str, ...]) -> Followed:
        if len(text) > MAX_SCRIPT:
            raise ShellSyntaxError("too long to be read")
        if _SHELL.match(text) is None:
            raise ShellSyntaxError("not a shell script")
        bash = is_bash(text)
        return follow_script(
            parse_shell(text, bash=bash),
            arguments=arguments,
            variables={
                "DEBIAN_FRONTEND": "noninteractive",
                "DPKG_MAINTSCRIPT_ARCH": scripts.architecture,
                "DPKG_MAINTSCRIPT_NAME": name,
                "DPKG_MAINTSCRIPT_PACKAGE": scripts.name,
                "DPKG_ROOT": "",
                "DPKG_ADMINDIR": "/var/lib/dpkg",
            },
            surroundings=self.surroundings,
            bash=bash,
        )

    def _is_same(self, scripts: ScriptSet, name: str, text: str, other: str, arguments: tuple[str, ...]) -> bool:
        """Tell whether two versions of a script do the same: by their text, or by what they reach."""
        if normalise_script(text) == normalise_script(other):
            return True
        try:
            traces = [
                [
                    (_mask(c.words, scripts), _mask(c.writes, scripts), c.certain)
                    for c in self._reach(scripts, name, version, arguments).commands
                ]
                for version in (text, other)
            ]
        except ShellSyntaxError:
            return False
        return traces[0] == traces[1]


def _verdict(scripts: ScriptSet, name: str, judgement: Judgement, triggers: tuple[str, ...] = ()) -> JudgedScript:
    verdict = ScriptVerdict(package=scripts.key, script=name, verdict=judgement.verdict, reason=judgement.reason)
    return JudgedScript(verdict, judgement.actions, triggers)


def _describe(judgements: Sequence[Judgement], *, repeated: bool, commands: Sequence[Reached]) -> str:
    notes = list(dict.fromkeys(j.reason for j in judgements if j.reason))
    if not commands:
        return "nothing in it is reached by this upgrade"
    said = "the same script has already run in this image" if repeated else "only commands without effect in an image"
    return "; ".join([said, *notes])


def _judge_unread(text: str, why: str, *, repeated: bool) -> Judgement:
    """Judge a script whose commands can't be told: by its words, if it has run before."""
    if not repeated:
        return Judgement(ScriptClass.NEEDS_EXECUTION, why)
    telling = sorted(set(_WORD.findall(text)) & _TELLTALE)
    if telling:
        return Judgement(ScriptClass.NEEDS_EXECUTION, f"{why}, and it names {telling[0]}")
    return Judgement(ScriptClass.HARMLESS, "the same script has already run in this image")


def _mask(words: Sequence[str | None], scripts: ScriptSet) -> tuple[str | None, ...]:
    """Make the package's own version the same in the old and the new script."""
    versions = [v for v in (scripts.new_version, scripts.old_version) if v]
    masked: list[str | None] = []
    for word in words:
        value = word
        for version in versions:
            value = value.replace(version, "\0") if value is not None else None
        masked.append(value)
    return tuple(masked)


def _activated(commands: Sequence[Reached]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            command.words[-1]
            for command in commands
            if command.words[0] == "dpkg-trigger" and command.words[-1] is not None
        )
    )


class _Nothing(Surroundings):
    """Surroundings of which nothing is known."""

    def compare_versions(self, left: str, operator: str, right: str) -> bool | None:
        return None

    def test_file(self, operator: str, path: str) -> bool | None:
        return None

    def has_program(self, name: str) -> bool | None:
        return None

    def reach(self, command: Reached) -> bool | None:
        return None

    def read_output(self, words: Sequence[str | None]) -> str | None:
        return None

    def find_paths(self, pattern: str) -> tuple[str, ...] | None:
        return None

    def find_source(self, path: str) -> str | None:
        return None


def _written_paths(text: str) -> set[str]:
    try:
        followed = follow_script(
            parse_shell(text[:MAX_SCRIPT], bash=is_bash(text)),
            arguments=(),
            variables={"DPKG_ROOT": ""},
            surroundings=_Nothing(),
        )
    except ShellSyntaxError:
        return set()
    found: set[str] = set()
    for command in followed.commands:
        words = command.words[1:] if command.words[0] in FILE_CHANGERS else ()
        found |= {word for word in (*words, *command.writes) if word is not None and word.startswith("/")}
    return found
