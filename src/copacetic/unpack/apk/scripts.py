# SPDX-License-Identifier: Apache-2.0
"""
Scripts at the moment at which apk would run them: followed command by command, and done in the tree.

A command that every run gets to, and whose words are known, is done, or found to have nothing left to do. Any other
is judged: it may be harmless whatever it does, and it may have been done when the image was made, by the same script.
What is neither makes the package need execution, by name and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.commands import ATTRIBUTES, FILE_CHANGERS
from copacetic.scripts.judgement import FAILS, HARMLESS, Judgement, needs_execution, worst
from copacetic.scripts.repetition import NOTHING_RAN, Ran
from copacetic.scripts.shell.interpret import Reached, follow_script
from copacetic.scripts.shell.parser import is_bash, parse_shell
from copacetic.scripts.shell.syntax import ShellSyntaxError
from copacetic.unpack.apk import busybox
from copacetic.unpack.apk.accounts import make_account
from copacetic.unpack.apk.commands import ApkJudge, find_changes
from copacetic.unpack.apk.effects import EFFECTS, Effect, do_command
from copacetic.unpack.apk.live import LiveImage
from copacetic.updates import PackageKey, ScriptClass, ScriptVerdict

__all__ = ["ScriptCall", "ScriptRunner"]

MAX_SCRIPT = 1024 * 1024
NO_SHELL = "this image has no shell: no script ever ran in it"
_SHEBANG = re.compile(r"#! ?(/\S+)(?: +(\S+))?")
_SHELL = "bin/sh"
_SHELLS = frozenset(("sh", "ash", "dash", "bash"))
_PRUNE = "copa-prune-busybox-links"
_GAP = r"[\s\\]*"
_PRUNING = re.compile(
    _GAP.join(
        re.escape(word)
        for word in (
            *("find bin sbin usr/bin usr/sbin -maxdepth 1 -type l;", "busybox --list-all", "\0"),
            *("|", "sort", "|", "uniq -u", "|", 'xargs -r stat -c "%N" 2>/dev/null', "|"),
            *('awk "\\$3 == \\"\'/bin/busybox\'\\" {print \\$1}"', "|", "sed \"s/^'//; s/'$//\"", "|", "xargs -r rm"),
        )
    ).replace(re.escape("\0"), r"(?:;\s*\}|\))")
    + r"(?: -f)?(?=\s)"
)
"""The pipeline with which busybox's package removes links to applets that there aren't any more."""
_ERREXIT = re.compile(r"\A#!.*\s-[a-z]*e|^[ \t]*set[ \t]+-[a-z]*e|\bset -o errexit\b", re.MULTILINE)
"""A script that ends with the first command that fails."""
_MASKED = frozenset(("mkdir", "touch"))
_OPENING = re.compile(r"[({]\s*$")


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script that apk would run."""

    package: PackageKey
    name: str
    """pre-upgrade, post-upgrade, trigger, …"""
    text: str
    arguments: tuple[str, ...]
    before: tuple[str, tuple[str, ...]] | None = None
    """The script that ran when the version was installed that is in the image, and its arguments."""


@dataclass(slots=True)
class ScriptRunner:
    """Follows scripts over one tree. In a rehearsal what is derived from other files' content is left out."""

    tree: TreeBuilder
    image: ImageFilesystem
    """As it was before anything was done."""
    scheme: str
    epoch: int
    rehearsal: bool = False
    busybox: str = ""
    """The version of busybox that is there to be run; empty without one."""
    libc: tuple[str, str] | None = None
    """The old and the new version of the package that ldconfig belongs to, when it changes."""

    def run(self, call: ScriptCall) -> ScriptVerdict:
        """Do what a script does, and say what that came to."""
        runnable = self._has_interpreter(call.text)
        if runnable is False and self.tree.lookup(_SHELL) is not None:
            judgement = needs_execution("the image lacks the shell that it asks for")
        else:
            other = needs_execution("it is not a shell script")
            judgement = other if runnable is None else self._follow(call, runnable=runnable)
        return ScriptVerdict(package=call.package, script=call.name, verdict=judgement.verdict, reason=judgement.reason)

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
        run = _Run(self, call, live, runnable=runnable)
        live.on_command = run.meet
        try:
            bash = is_bash(call.text)
            nodes = parse_shell(_mark_pruning(call.text), bash=bash)
            followed = follow_script(nodes, arguments=call.arguments, variables={}, surroundings=live, bash=bash)
        except ShellSyntaxError as error:
            return needs_execution(str(error))
        return run.sum_up(fails=runnable and followed.succeeds is False)


@dataclass(slots=True)
class _Run:
    """One script on its way."""

    runner: ScriptRunner
    call: ScriptCall
    live: LiveImage
    runnable: bool
    met: list[tuple[Reached, Judgement]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Names of the commands that made a difference."""
    _judge: ApkJudge | None = None
    _ran: Ran | None = None

    def meet(self, command: Reached) -> bool | None:
        """Do a command, or judge it; returns whether it succeeds."""
        known = [word for word in command.words if word is not None]
        if command.words[0] == "cd" and known[1:] != ["/"]:
            self.live.at_root = False
        plain = command.certain and not command.writes and len(known) == len(command.words)
        if not self.runnable and command.words[0] not in ("ldconfig", "/sbin/ldconfig"):
            self.met.append((command, HARMLESS))
            return None
        effect = self._do(known) if plain else None
        if effect is None:
            self.met.append((command, self._judge_command(command, plain=plain)))
            return None
        if effect.changed:
            self.done.append(known[0].rpartition("/")[2])
        ends = effect.succeeds is False and _ERREXIT.search(self.call.text) is not None
        self.met.append((command, needs_execution("it fails, and the script may end there") if ends else HARMLESS))
        return effect.succeeds

    def _do(self, words: list[str], *, bare: bool = False) -> Effect | None:
        """Do a command; a `bare` one is busybox's, and needs no link of its own."""
        name = words[0].rpartition("/")[2]
        if name == "busybox" and len(words) > 1 and not words[1].startswith("-"):
            return self._do(words[1:], bare=True)
        if name == "cd":
            return Effect(None)
        if name in _MASKED and "umask" in self.call.text:
            return None
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self, words)
        if name in EFFECTS and not bare and self.live.find_program(words[0]) is None:
            return Effect(succeeds=False)
        return do_command(self.live, words, mtime=self.runner.epoch)

    def do_links(self, words: list[str]) -> Effect | None:
        """`busybox --install -s`, and the same of busybox-extras."""
        binary = f"bin/{words[0].rpartition('/')[2]}"
        if words[1:] != ["--install", "-s"]:
            return Effect(None) if words[1:2] in (["--list"], ["--list-all"], ["--list-full"], ["--help"]) else None
        paths = busybox.applet_paths(self.runner.tree, binary)
        if paths is None:
            return None
        return Effect(changed=busybox.install_links(self.runner.tree, paths, binary, mtime=self.runner.epoch))

    def do_pruning(self, _words: list[str]) -> Effect | None:
        paths = busybox.applet_paths(self.runner.tree)
        return None if paths is None else Effect(None, busybox.prune_links(self.runner.tree, paths))

    def do_suid(self, words: list[str]) -> Effect | None:
        """Tell whether bbsuid made its links when it came: it has the list of them inside."""
        tree = self.runner.tree
        links = (
            tree.lookup(f"{folder}/{name}", follow=False) for folder in busybox.FOLDERS for name in tree.iterdir(folder)
        )
        binary = tree.resolve("bin/bbsuid")
        made = any(link is not None and link.target == f"/{binary}" for link in links)
        return Effect() if words[1:] == ["--install"] and made and not tree.holds(binary) else None

    def do_account(self, words: list[str]) -> Effect | None:
        """Make a user or a group, where the program is busybox's own."""
        tree, program = self.runner.tree, self.live.find_program(words[0])
        if program is None or tree.resolve(program) != tree.resolve(busybox.BINARY) or not self.runner.busybox:
            return None
        return make_account(tree, words, busybox=self.runner.busybox, mtime=self.runner.epoch)

    def do_certificates(self, words: list[str]) -> Effect | None:
        """`update-ca-certificates`, which takes no arguments."""
        from copacetic.unpack.apk.certificates import has_only_known_hooks, learn_bundling, update_certificates

        if self.live.find_program(words[0]) is None:
            return Effect(succeeds=False)
        bundling = learn_bundling(self.runner.image)
        if bundling is None or not has_only_known_hooks(self.runner.tree):
            return None
        if not self.runner.rehearsal:
            update_certificates(self.runner.tree, bundling, mtime=self.runner.epoch)
        return Effect(None, changed=True)

    def do_ldconfig(self, words: list[str]) -> Effect | None:
        from copacetic.scripts.handlers.ldconfig import update_library_cache

        if len(words) > 1 and not all(word.startswith("/") for word in words[1:]):
            return None
        if self.runner.rehearsal:
            return Effect(changed=True)
        update_library_cache(self.runner.tree, mtime=self.runner.epoch, libc=self.runner.libc)
        return Effect(changed=True)

    def _judge_command(self, command: Reached, *, plain: bool) -> Judgement:
        if self._judge is None:
            self._judge = ApkJudge(find_changes(self.runner.tree), self.live, str(self.call.package))
        name = (command.words[0] or "").rpartition("/")[2]
        judgement = self._judge.judge(command, repeated=False)
        # What would be done to a file for certain is known not to have been done.
        certain = plain and (name in FILE_CHANGERS or name in ATTRIBUTES)
        if judgement.verdict is not ScriptClass.HARMLESS and not certain and self._first_run().has(command):
            judgement = self._judge.judge(command, repeated=True)
        if judgement.verdict is ScriptClass.REPRODUCED:  # by a handler of another format, or of what couldn't be done
            return needs_execution(f"{name} would have to be run")
        return judgement

    def _first_run(self) -> Ran:
        """Return what ran when the installed version was installed, as nothing was before."""
        if self._ran is None and self.call.before is not None:
            text, arguments = self.call.before
            bash = is_bash(text)
            around = LiveImage(self.runner.tree, self.runner.scheme)
            try:
                nodes = parse_shell(_mark_pruning(text), bash=bash)
                followed = follow_script(nodes, arguments=arguments, variables={}, surroundings=around, bash=bash)
            except ShellSyntaxError:
                self._ran = NOTHING_RAN
            else:
                self._ran = Ran.of(followed.commands, (*self.call.arguments, *arguments))
        return self._ran or NOTHING_RAN

    def sum_up(self, *, fails: bool) -> Judgement:
        """Return what the script came to: the command that decides, or what was done."""
        for command, judgement in self.met:
            if judgement.verdict is ScriptClass.NEEDS_EXECUTION:
                lines = self.call.text.split("\n")
                line = lines[command.line - 1].strip() if 0 < command.line <= len(lines) else ""
                return Judgement(judgement.verdict, f"line {command.line}, {line[:120]!r}: {judgement.reason}")
        if fails:
            return FAILS
        if self.done:
            return Judgement(ScriptClass.REPRODUCED, f"reproduced: {', '.join(dict.fromkeys(self.done))}")
        if not self.runnable:
            return Judgement(ScriptClass.HARMLESS, NO_SHELL)
        decided = worst([judgement for _, judgement in self.met])
        notes = list(dict.fromkeys(judgement.reason for _, judgement in self.met if judgement.reason))
        said = "nothing in it has an effect in this image" if self.met else "nothing in it is reached"
        return Judgement(decided.verdict, "; ".join([said, *notes]))


_SPECIAL: dict[str, Callable[[_Run, list[str]], Effect | None]] = {
    "addgroup": _Run.do_account,
    "adduser": _Run.do_account,
    "bbsuid": _Run.do_suid,
    "busybox": _Run.do_links,
    "busybox-extras": _Run.do_links,
    "ldconfig": _Run.do_ldconfig,
    "update-ca-certificates": _Run.do_certificates,
    _PRUNE: _Run.do_pruning,
}


def _mark_pruning(text: str) -> str:
    """Put one word in the place of the pipeline that is known as a whole; lines keep their numbers."""
    match = _PRUNING.search(text)
    opening = _OPENING.search(text[: match.start()]) if match is not None else None
    if match is None or opening is None:
        return text
    breaks = "\n" * text.count("\n", opening.start(), match.end())
    return f"{text[: opening.start()]}{_PRUNE}{breaks}{text[match.end() :]}"
