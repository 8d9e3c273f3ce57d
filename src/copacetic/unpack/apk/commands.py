# SPDX-License-Identifier: Apache-2.0
"""The commands of Alpine's and Wolfi's scripts that have a rule of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from copacetic.scripts.judge import CommandJudge, Rule
from copacetic.scripts.judgement import HARMLESS, Judgement, NeedsExecution
from copacetic.scripts.shell.expansion import Value

__all__ = ["ApkJudge"]

_RUNNING = frozenset(("openrc", "rc", "rc-status", "rc-service", "supervise-daemon"))
"""They speak to OpenRC, which no image runs while it is built."""


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
