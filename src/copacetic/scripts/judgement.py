# SPDX-License-Identifier: Apache-2.0
"""What is found about a command or a script: a verdict, the reason, and what is to be done instead of running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from copacetic.updates import ScriptClass

__all__ = ["FAILS", "HARMLESS", "Action", "Judgement", "needs_execution", "worst"]


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be reproduced when the layer is composed; `handlers` knows the kinds."""

    kind: str
    words: tuple[str, ...] = ()
    package: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason, and what is to be done instead of running the command."""

    verdict: ScriptClass
    reason: str = ""
    actions: tuple[Action, ...] = ()


HARMLESS = Judgement(ScriptClass.HARMLESS)


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """Return the one that decides."""
    order = (ScriptClass.HARMLESS, ScriptClass.REPRODUCED, ScriptClass.NEEDS_EXECUTION)
    return max(judgements, key=lambda j: order.index(j.verdict), default=HARMLESS)


def needs_execution(reason: str) -> Judgement:
    return Judgement(ScriptClass.NEEDS_EXECUTION, reason)


FAILS = needs_execution("it ends with an error, whoever runs it")
