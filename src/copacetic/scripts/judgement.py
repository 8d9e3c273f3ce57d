# SPDX-License-Identifier: Apache-2.0
"""What is found about a command or a script: one of three verdicts, with the reason and with what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from copacetic.scripts.effects import Effect
from copacetic.updates import PackageKey, ScriptClass, ScriptVerdict

__all__ = ["FAILS", "HARMLESS", "Harmless", "Judgement", "NeedsExecution", "Reproduced", "at_line", "describe", "worst"]


class Harmless(Struct, frozen=True):
    """It does nothing that matters; what is to be done nevertheless only tidies up."""

    verdict: ClassVar[ScriptClass] = ScriptClass.HARMLESS
    reason: str = ""
    effects: tuple[Effect, ...] = ()


class Reproduced(Struct, frozen=True):
    """What it does is done without it: there is no such verdict without an effect that `engine` carries out."""

    verdict: ClassVar[ScriptClass] = ScriptClass.REPRODUCED
    reason: str
    effects: tuple[Effect, *tuple[Effect, ...]]


class NeedsExecution(Struct, frozen=True):
    """It has to be run."""

    verdict: ClassVar[ScriptClass] = ScriptClass.NEEDS_EXECUTION
    effects: ClassVar[tuple[Effect, ...]] = ()
    reason: str


Judgement = Harmless | Reproduced | NeedsExecution
HARMLESS = Harmless()
FAILS = NeedsExecution("it ends with an error, whoever runs it")


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """Return the one that decides."""
    order = (Harmless, Reproduced, NeedsExecution)
    return max(judgements, key=lambda judgement: order.index(type(judgement)), default=HARMLESS)


def at_line(text: str, line: int, judgement: NeedsExecution) -> NeedsExecution:
    """Return the verdict on a script that one of its lines decides."""
    lines = text.split("\n")
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return NeedsExecution(f"line {line}, {shown[:120]!r}: {judgement.reason}")


def describe(package: PackageKey, script: str, judgement: Judgement) -> ScriptVerdict:
    """Return what the plan says of a script."""
    return ScriptVerdict(package=package, script=script, verdict=judgement.verdict, reason=judgement.reason)
