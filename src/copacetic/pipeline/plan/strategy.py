# SPDX-License-Identifier: Apache-2.0
"""How a plan is applied, why, and why not the other way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from copacetic.request import Strategy
from copacetic.updates import FetchedPackage, PlannedUpdate, ScriptClass, ScriptVerdict

__all__ = ["Choice", "choose_strategy", "describe_offence", "offending_scripts", "refusal"]


class Choice(Struct, frozen=True, kw_only=True):
    """A way, with the reasons in one line each."""

    strategy: Strategy
    reason: str
    why_not: str = ""
    """Why it isn't the other one."""


def choose_strategy(
    packages: Sequence[FetchedPackage], asked: Strategy, why_not: Callable[[], str], *, forbidden: bool = False
) -> Choice:
    """
    Decide how judged packages are applied. `why_not` tells whether programs can be run here, asked only when it
    matters; `forbidden` says that this was found impossible before.
    """
    if asked is not Strategy.AUTO:
        return Choice(
            strategy=asked,
            reason=f"--strategy {asked} asks for it",
            why_not=f"--strategy {asked} forbids to run anything",
        )
    offending = [package.update for package in packages if offending_scripts(package.update)]
    if not offending:
        return Choice(strategy=Strategy.UNPACK, reason="no script of these packages has to be run")
    excuse = "" if forbidden else why_not()
    if forbidden or excuse:
        return Choice(strategy=Strategy.UNPACK, reason="", why_not=f"scripts can't be run: {excuse}")
    more = f", and {len(offending) - 1} more" if len(offending) > 1 else ""
    reason = f"{offending[0].candidate.name}: {describe_offence(offending[0])}{more}"
    return Choice(strategy=Strategy.EXEC, reason=reason)


def describe_offence(update: PlannedUpdate) -> str:
    """Say which scripts of a package have to be run, and why."""
    return "; ".join(f"{script.script}: {script.reason}" for script in offending_scripts(update))


def refusal(update: PlannedUpdate) -> str:
    """Say why a package can't be brought into this image at all; empty when it can."""
    return next((script.reason for script in update.scripts if script.verdict is ScriptClass.REFUSED), "")


def offending_scripts(update: PlannedUpdate) -> list[ScriptVerdict]:
    return [script for script in update.scripts if script.verdict is ScriptClass.NEEDS_EXECUTION]
