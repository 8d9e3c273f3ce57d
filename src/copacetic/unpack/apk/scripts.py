# SPDX-License-Identifier: Apache-2.0
"""The commands of Alpine's and Wolfi's scripts that have a rule of their own, or do more than to change files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from copacetic.scripts import effects
from copacetic.scripts.handlers import busybox
from copacetic.scripts.judge import CommandJudge, Rule
from copacetic.scripts.judgement import HARMLESS, Judgement, NeedsExecution
from copacetic.scripts.runner import Dialect, ScriptRun
from copacetic.scripts.shell.expansion import Value

__all__ = ["APK"]

_RUNNING = frozenset(("openrc", "rc", "rc-status", "rc-service", "supervise-daemon"))
"""They speak to OpenRC, which no image runs while it is built."""
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
_OPENING = re.compile(r"[({]\s*$")


@dataclass(slots=True)
class ApkJudge(CommandJudge):
    """Judges what the tables don't know; what it is asked about couldn't be done in the tree."""

    def find_rule(self, name: str) -> Rule | None:
        """See `CommandJudge.find_rule`."""
        if name in _RUNNING:
            return self.do_service
        if name == "rc-update":
            return self.do_runlevels
        if name in ("addgroup", "adduser"):
            return self.do_account
        if name in ("busybox", "busybox-extras", "bbsuid", "update-ca-certificates"):
            return self.do_own
        return CommandJudge.find_rule(self, name)

    def do_service(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        return HARMLESS

    def do_runlevels(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        asks = len(words) == 1 or words[1] in ("show", "-q", "--quiet", "-v")
        return HARMLESS if repeated or asks else NeedsExecution("rc-update may change what is started")

    def do_account(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        if repeated or self.is_settled(words) or self.image.has_program(words[0] or "") is False:
            return HARMLESS
        return NeedsExecution(f"{words[0]} would have to make an account in a way that isn't known")

    def do_own(self, words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """What follows from files has to be done anew, whatever was done before."""
        shown = " ".join(word or "?" for word in words)
        return NeedsExecution(f"{shown} would have to be run")


def _read_applets(run: ScriptRun, words: list[str]) -> effects.Reading:
    """`busybox --install -s`, the same of busybox-extras, and applets called by busybox, which need no link."""
    if len(words) > 1 and not words[1].startswith("-"):
        return run.read(words[1:], bare=True) if words[0].rpartition("/")[2] == "busybox" else None
    if words[1:] == ["--install", "-s"]:
        return effects.LinkApplets(f"bin/{words[0].rpartition('/')[2]}")
    return effects.Done(None) if words[1:2] in (["--list"], ["--list-all"], ["--list-full"], ["--help"]) else None


def _read_pruning(_run: ScriptRun, _words: list[str]) -> effects.Reading:
    return effects.PruneApplets()


def _read_suid(run: ScriptRun, words: list[str]) -> effects.Reading:
    """Tell whether bbsuid made its links when it came: it has the list of them inside."""
    tree = run.runner.tree
    links = (
        tree.lookup(f"{folder}/{name}", follow=False) for folder in busybox.FOLDERS for name in tree.iterdir(folder)
    )
    binary = tree.resolve("bin/bbsuid")
    made = any(link is not None and link.target == f"/{binary}" for link in links)
    return effects.Done() if words[1:] == ["--install"] and made and not tree.holds(binary) else None


def _read_account(run: ScriptRun, words: list[str]) -> effects.Reading:
    """A user or a group can be made where the program is busybox's own."""
    tree, program = run.runner.tree, run.live.find_program(words[0])
    own = program is not None and tree.resolve(program) == tree.resolve(busybox.BINARY)
    return effects.MakeAccount(tuple(words)) if own else None


def _read_certificates(run: ScriptRun, words: list[str]) -> effects.Reading:
    """`update-ca-certificates`, which takes no arguments."""
    from copacetic.scripts.handlers.certificates import has_only_known_hooks, learn_bundling

    if run.live.find_program(words[0]) is None:
        return effects.Done(succeeds=False)
    bundling = learn_bundling(run.runner.image)
    return effects.UpdateCertificates(bundling) if bundling and has_only_known_hooks(run.runner.tree) else None


def _mark_pruning(text: str) -> str:
    """Put one word in the place of the pipeline that is known as a whole; lines keep their numbers."""
    match = _PRUNING.search(text)
    opening = _OPENING.search(text[: match.start()]) if match is not None else None
    if match is None or opening is None:
        return text
    breaks = "\n" * text.count("\n", opening.start(), match.end())
    return f"{text[: opening.start()]}{_PRUNE}{breaks}{text[match.end() :]}"


APK = Dialect(
    judge=ApkJudge,
    readers={
        "addgroup": _read_account,
        "adduser": _read_account,
        "bbsuid": _read_suid,
        "busybox": _read_applets,
        "busybox-extras": _read_applets,
        "update-ca-certificates": _read_certificates,
        _PRUNE: _read_pruning,
    },
    mark=_mark_pruning,
)
