# SPDX-License-Identifier: Apache-2.0
"""A plan from a file, held against the image that it is going to be applied to."""

from __future__ import annotations

from itertools import chain

from msgspec.structs import replace

from copacetic.errors import FixesMissingError
from copacetic.inventory import PackageDatabase
from copacetic.pipeline.job import Job, Judged, Ways
from copacetic.pipeline.plan.make import PreparedPlan
from copacetic.pipeline.plan.sources import open_repositories
from copacetic.pipeline.plan.strategy import choose_strategy
from copacetic.pipeline.plan.vouch import take_plans_word, vouch_for_section
from copacetic.request import Strategy
from copacetic.updates import Plan, Section

__all__ = ["prepare_stored"]


def prepare_stored(plan: Plan, job: Job, ways: Ways) -> PreparedPlan:
    """
    Fetch exactly what a stored plan names, and judge its scripts anew: the plan is trusted for neither.

    Raises `UnsupportedImageError` or `FixesMissingError` when the image isn't the one that was planned for, and
    `PlanFileError` for packages that nobody vouches for.
    """
    inventories = [job.opened.inventory(section.package_type) for section in plan.sections]
    sections = [_complete(*pair) for pair in zip(plan.sections, inventories, strict=True)]
    judged: dict[str, Judged] = {}
    for number, inventory in enumerate(inventories):
        repository = open_repositories(job, inventory)
        section = sections[number]
        section = take_plans_word(section) if job.request.trust_plan else vouch_for_section(section, repository)
        found = ways.judge(inventory, section.updates, repository)
        sections[number] = replace(section, updates=tuple(package.update for package in found.packages))
        judged[section.package_type] = found
    packages = {package_type: found.packages for package_type, found in judged.items() if found.packages}
    asked = job.request.strategy

    def why_not() -> str:
        return ways.of(Strategy.EXEC).why_not(packages.keys())

    is_said = asked is Strategy.AUTO and plan.strategy is Strategy.EXEC
    every = list(chain.from_iterable(packages.values()))
    choice = choose_strategy(every, Strategy.EXEC if is_said else asked, why_not)
    checked = replace(
        plan,
        sections=tuple(sections),
        strategy=choice.strategy,
        strategy_reason=plan.strategy_reason if is_said else choice.reason,
    )
    newest = max((found.newest_mtime for found in judged.values()), default=0)
    return PreparedPlan(plan=checked, packages=packages, newest_mtime=newest)


def _complete(section: Section, inventory: PackageDatabase) -> Section:
    """Complete it from the image's database."""
    present = {p.key: p for p in inventory.packages()}
    by_name = {p.name: p for p in inventory.packages()}
    updates = []
    for update in section.updates:
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
    return replace(section, updates=tuple(updates))
