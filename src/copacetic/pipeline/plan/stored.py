# SPDX-License-Identifier: Apache-2.0
"""A plan from a file, held against the image that it is going to be applied to."""

from __future__ import annotations

from dataclasses import replace

from copacetic.errors import FixesMissingError, UnsupportedImageError
from copacetic.pipeline.job import Job, Ways
from copacetic.pipeline.open.image import OpenedImage
from copacetic.pipeline.plan.fetch import fetch_packages
from copacetic.pipeline.plan.make import PreparedPlan
from copacetic.pipeline.plan.sources import open_repositories
from copacetic.pipeline.plan.strategy import choose_strategy
from copacetic.pipeline.plan.vouch import take_plans_word, vouch_for_plan
from copacetic.request import Strategy
from copacetic.updates import Plan

__all__ = ["prepare_stored"]


def prepare_stored(plan: Plan, job: Job, ways: Ways) -> PreparedPlan:
    """
    Fetch exactly what a stored plan names, and judge its scripts anew: the plan is trusted for neither.

    Raises `UnsupportedImageError` or `FixesMissingError` when the image isn't the one that was planned for, and
    `PlanFileError` for packages that nobody vouches for.
    """
    checked = _complete(plan, job.opened)
    repository = open_repositories(job)
    checked = take_plans_word(checked) if job.request.trust_plan else vouch_for_plan(checked, repository)
    judged = ways.judge(fetch_packages(repository, checked.updates))
    asked = job.request.strategy

    def why_not() -> str:
        return ways.of(Strategy.EXEC).why_not()

    is_said = asked is Strategy.AUTO and checked.strategy is Strategy.EXEC
    choice = choose_strategy(judged.packages, Strategy.EXEC if is_said else asked, why_not)
    checked = replace(
        checked,
        updates=tuple(package.update for package in judged.packages),
        strategy=choice.strategy,
        strategy_reason=checked.strategy_reason if is_said else choice.reason,
    )
    return PreparedPlan(plan=checked, packages=judged.packages, newest_mtime=judged.newest_mtime)


def _complete(plan: Plan, opened: OpenedImage) -> Plan:
    """Complete it from the image's database."""
    if plan.package_type != opened.database.package_type:
        message = f"the plan is for {plan.package_type} packages, the image has {opened.database.package_type}"
        raise UnsupportedImageError(message)
    present = {p.key: p for p in opened.database.packages()}
    by_name = {p.name: p for p in opened.database.packages()}
    updates = []
    for update in plan.updates:
        candidate = update.candidate
        installed = present.get(candidate.key)
        if installed is None and update.installed is not None:
            installed = by_name.get(candidate.name)  # one that becomes, or ceases to be, architecture-independent
        planned = update.installed.version if update.installed else None
        actual = installed.version if installed else None
        if planned != actual:
            raise FixesMissingError(
                f"{update.key} is {actual or 'not installed'}, the plan starts from {planned or 'nothing'}"
            )
        updates.append(replace(update, installed=installed))
    return replace(plan, updates=tuple(updates))
