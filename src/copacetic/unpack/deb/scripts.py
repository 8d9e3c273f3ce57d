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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct, structs
from msgspec.structs import replace

from copacetic.scripts.changes import ChangeSet
from copacetic.scripts.commands import ATTRIBUTES, CACHES, DERIVERS, FILE_CHANGERS, IDEMPOTENT
from copacetic.scripts.effects import Due, RemoveFiles, RemoveFolders, SetAlternative
from copacetic.scripts.judgement import (
    FAILS,
    Harmless,
    Judgement,
    NeedsExecution,
    Reproduced,
    at_line,
    describe,
    worst,
)
from copacetic.scripts.repetition import NOTHING_RAN, Past, Ran
from copacetic.scripts.shell.interpret import Followed, Reached, Surroundings, follow_script
from copacetic.scripts.shell.parser import is_bash, parse_shell
from copacetic.scripts.shell.syntax import ShellSyntaxError
from copacetic.scripts.surroundings import ImageSurroundings, written_paths
from copacetic.unpack.deb.judge import DebJudge
from copacetic.unpack.deb.recognised import mark_fragments, normalise_script, recognise_script
from copacetic.updates import PackageKey, ScriptVerdict

__all__ = ["JudgedScript", "ScriptSet", "UpgradeJudge"]

MAX_SCRIPT = 1024 * 1024
_SHELL = re.compile(r"#! ?/(?:usr/)?bin/(?:env )?(?:ba|da|)sh\b")
_FIRST = {"preinst": ("install",), "config": ("configure", ""), "postinst": ("configure", "")}
"""The scripts of a new version that a first installation runs, and with what arguments."""
ANSWERED = "only asks debconf's questions (debconf-devel(7)), and this image has its answers"
NEVER_RUN = "not run by this upgrade"


class ScriptSet(Struct, frozen=True):
    """The scripts of one package, before and after."""

    key: PackageKey
    old_version: str
    """Empty for a package that comes in new."""
    new_version: str
    old: Mapping[str, str] = {}
    new: Mapping[str, str] = {}


class JudgedScript(Struct, frozen=True):
    """A verdict, and what to do instead of running the script."""

    verdict: ScriptVerdict
    effects: tuple[Due, ...] = ()
    triggers: tuple[str, ...] = ()
    """Names that the script activates with dpkg-trigger."""


@dataclass(slots=True)
class UpgradeJudge:
    """Judges the scripts of packages that are installed together."""

    surroundings: ImageSurroundings
    changes: ChangeSet
    earlier: Callable[[PackageKey], str] = lambda _key: ""
    """Returns from which version a package came to the installed one; empty where that isn't known."""
    _removed: set[str] = field(default_factory=set)
    """What earlier scripts of the package remove."""
    _relinked: frozenset[str] = frozenset()
    """Names and paths of alternatives that a script changes, of any package."""
    _remade: set[str] = field(default_factory=set)
    """What of it is made again out of the same files, so that it can stay."""

    def judge_package(self, scripts: ScriptSet) -> list[JudgedScript]:
        """Judge all scripts of a package, in the order in which an upgrade runs them."""
        judged: list[JudgedScript] = []
        upgrade = scripts.old_version != ""
        self._removed, self._remade = set(), set()
        if upgrade:
            judged += self._pair(scripts, "prerm", ("upgrade", scripts.new_version), runs=scripts.old)
        first = ("upgrade", scripts.old_version, scripts.new_version) if upgrade else ("install",)
        judged += self._pair(scripts, "preinst", first, runs=scripts.new)
        if upgrade:
            judged += self._pair(scripts, "postrm", ("upgrade", scripts.new_version), runs=scripts.old)
        if upgrade and "config" in scripts.old and "config" in scripts.new:
            judged.append(_verdict(scripts, "config", Harmless(ANSWERED)))
        else:
            judged += self._pair(scripts, "config", ("configure", scripts.old_version), runs=scripts.new)
        judged += self._pair(scripts, "postinst", ("configure", scripts.old_version), runs=scripts.new)
        for name in ("prerm", "postrm"):
            if name in scripts.new and name not in scripts.old:
                judged.append(_verdict(scripts, name, Harmless(NEVER_RUN)))
        if self._remade:
            judged = [replace(one, effects=tuple(filter(None, map(self._keep, one.effects)))) for one in judged]
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
            return _verdict(scripts, label, Harmless(reason))
        if not text:
            return _verdict(scripts, label, Harmless("nothing to run"))
        judgement, names = self._follow(scripts, "postinst", text, ("triggered", label), anew=True)
        return _verdict(scripts, label, judgement, names)

    def unstable_paths(self, packages: Sequence[ScriptSet]) -> dict[str, frozenset[str]]:
        """Return the paths that scripts may create or remove, whatever the state of the image, and which scripts."""
        found: dict[str, frozenset[str]] = {}
        for scripts in packages:
            for name, text in dict.fromkeys((*scripts.old.items(), *scripts.new.items())):
                for path in {self.surroundings.resolve(path) for path in _written_paths(text)}:
                    found[path] = found.get(path, frozenset()) | {f"{scripts.key} {name}"}
        return found

    # -- inside ----------------------------------------------------------------------------------------------

    def _pair(
        self, scripts: ScriptSet, name: str, arguments: tuple[str, ...], *, runs: Mapping[str, str]
    ) -> list[JudgedScript]:
        text = runs.get(name)
        if text is None:
            return []
        recognised = recognise_script(scripts.key.name, name, text) if runs is scripts.new else None
        if recognised is not None:
            return [_verdict(scripts, name, recognised)]
        judgement, triggers = self._follow(scripts, name, text, arguments)
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
        self, scripts: ScriptSet, name: str, text: str, arguments: tuple[str, ...], *, anew: bool = False
    ) -> tuple[Judgement, tuple[str, ...]]:
        try:
            followed = self._reach(scripts, name, text, arguments)
        except ShellSyntaxError as error:
            return NeedsExecution(str(error)), ()
        judge = DebJudge(
            changes=self.changes,
            image=self.surroundings,
            package=str(scripts.key),
            installed_version=scripts.old_version,
            relinked=self._relinked,
            precedes=lambda left, right: self.surroundings.compare_versions(left, "le-nl", right),
        )
        judgements: list[Judgement] = []
        past = Past(iter(()) if anew else self._runs(scripts, name))
        repeated = False
        self.surroundings.begin(f"{scripts.key} {name}")
        for command in followed.commands:
            judgement = judge.judge(command, repeated=False)
            if not isinstance(judgement, Harmless) and past.has(command) and not self._is_undone(command):
                judgement = judge.judge(command, repeated=True)
                repeated = True
            self.surroundings.note(command)
            if isinstance(judgement, NeedsExecution):
                return at_line(text, command.line, judgement), ()
            judgements.append(judgement)
            self._follow_removals(command, judgement)
        if followed.succeeds is False:
            return FAILS, ()
        effects = dict.fromkeys(effect for judgement in judgements for effect in judgement.effects)
        decisive, triggers = worst(judgements), _activated(followed.commands)
        if isinstance(decisive, Reproduced):
            first, *others = effects
            return Reproduced(decisive.reason, (first, *others)), triggers
        reason = _say(judgements, repeated=repeated, commands=followed.commands)
        return Harmless(reason, tuple(effects)), triggers

    def _follow_removals(self, command: Reached, judgement: Judgement) -> None:
        """Remember what is removed, and what is made again of what was."""
        for effect in judgement.effects:
            if isinstance(effect, SetAlternative):
                self._relinked |= {word for word in effect.words[1:] if not word.startswith("-") and not word.isdigit()}
            if isinstance(effect, RemoveFiles | RemoveFolders):
                self._removed |= set(map(self.surroundings.resolve, effect.paths))
        name = (command.words[0] or "").rpartition("/")[2]
        if self._removed and name in DERIVERS and isinstance(judgement, Harmless):
            made = {self.surroundings.resolve(path) for path in written_paths(command)}
            cache = f"/{CACHES[name]}" if name in CACHES else None
            self._remade |= {path for path in self._removed if path in made or (cache and path.endswith(cache))}

    def _is_undone(self, command: Reached) -> bool:
        """Tell whether something is removed by now that a command may have made when it ran before."""
        name = (command.words[0] or "").rpartition("/")[2]
        if not self._removed or name in DERIVERS:
            return False
        touched = {self.surroundings.resolve(path) for path in written_paths(command)}
        return bool(touched & self._removed) or name not in (IDEMPOTENT | FILE_CHANGERS | ATTRIBUTES)

    def _keep(self, due: Due) -> Due | None:
        """Return a removal without what is made again, and without the folders that it lies in."""
        package, effect = due
        if not isinstance(effect, RemoveFiles | RemoveFolders):
            return due
        resolved = {path: f"{self.surroundings.resolve(path)}/" for path in effect.paths}
        goes = (path for path, above in resolved.items() if not any(f"{p}/".startswith(above) for p in self._remade))
        left = structs.replace(effect, paths=tuple(goes))
        return (package, left) if left.paths else None

    def _reach(self, scripts: ScriptSet, name: str, text: str, arguments: tuple[str, ...]) -> Followed:
        if len(text) > MAX_SCRIPT:
            raise ShellSyntaxError("too long to be read")
        if _SHELL.match(text) is None:
            raise ShellSyntaxError("not a shell script")
        bash = is_bash(text)
        self.surroundings.begin(f"{scripts.key} {name}")
        return follow_script(
            parse_shell(mark_fragments(text, scripts.new.get("postinst", "")), bash=bash),
            arguments=arguments,
            variables={
                "DEBIAN_FRONTEND": "noninteractive",
                "DPKG_MAINTSCRIPT_ARCH": scripts.key.architecture,
                "DPKG_MAINTSCRIPT_NAME": name,
                "DPKG_MAINTSCRIPT_PACKAGE": scripts.key.name,
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
        versions = (scripts.new_version, scripts.old_version)
        try:
            reached = [self._reach(scripts, name, version, arguments).commands for version in (text, other)]
        except ShellSyntaxError:
            return False
        return Ran.of(reached[0], versions) == Ran.of(reached[1], versions)

    def _runs(self, scripts: ScriptSet, name: str) -> Iterator[Ran]:
        """
        Yield what the installed version's script did when that version was installed: as nothing was before, and over
        the version that lower layers have.
        """
        text, first = scripts.old.get(name), _FIRST.get(name)
        if text is None or first is None:
            return
        if name == "postinst" and "db_get" in text and self._answers_otherwise(scripts):
            return
        yield self._run_with(scripts, name, text, first)
        earlier = self.earlier(scripts.key)
        if earlier:
            later = ("upgrade", earlier, scripts.old_version) if name == "preinst" else ("configure", earlier)
            yield self._run_with(scripts, name, text, later, earlier)

    def _run_with(self, scripts: ScriptSet, name: str, text: str, arguments: tuple[str, ...], earlier: str = "") -> Ran:
        with self.surroundings.apart():
            try:
                commands = self._reach(scripts, name, text, arguments).commands
            except ShellSyntaxError:
                return NOTHING_RAN
        return Ran.of(commands, (scripts.new_version, scripts.old_version, earlier))


def _verdict(scripts: ScriptSet, name: str, judgement: Judgement, triggers: tuple[str, ...] = ()) -> JudgedScript:
    effects = tuple((scripts.key, effect) for effect in judgement.effects)
    return JudgedScript(describe(scripts.key, name, judgement), effects, triggers)


def _say(judgements: Sequence[Judgement], *, repeated: bool, commands: Sequence[Reached]) -> str:
    notes = list(dict.fromkeys(j.reason for j in judgements if j.reason))
    if not commands:
        return "nothing in it is reached by this upgrade"
    said = (
        "all that it reaches has already run in this image" if repeated else "only commands without effect in an image"
    )
    return "; ".join([said, *notes])


def _activated(commands: Sequence[Reached]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            command.words[-1]
            for command in commands
            if command.words[0] == "dpkg-trigger" and command.words[-1] is not None
        )
    )


class _Nothing(Surroundings):
    """Surroundings of which nothing is known: what the protocol's own methods return."""


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
    return {path for command in followed.commands for path in written_paths(command)}
