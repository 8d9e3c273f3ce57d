# SPDX-License-Identifier: Apache-2.0
"""
The plan for one variant: what changes, from what to what, why, and how.

Planning changes nothing. It does fetch the packages (into the cache, where patching finds them), for only their
scripts tell whether they can be installed without running anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from copacetic.errors import PACKAGE_FAULTS, FixesMissingError
from copacetic.pipeline.job import Job, Ways
from copacetic.pipeline.open.stale import stale_descriptions
from copacetic.pipeline.plan.fetch import fetch_packages
from copacetic.pipeline.plan.leftout import LeftOut
from copacetic.pipeline.plan.match import match_findings, want_everything
from copacetic.pipeline.plan.sources import open_repositories
from copacetic.pipeline.plan.strategy import Choice, choose_strategy, describe_offence, offending_scripts, refusal
from copacetic.repository import Repository
from copacetic.request import Strategy
from copacetic.updates import FetchedPackage, MatchedFinding, Plan, PlannedUpdate, Resolution, SkipReason, Wanted

__all__ = ["PreparedPlan", "empty_plan", "make_plan", "match"]

MAX_ROUNDS = 40
"""How often packages that can't be applied may be taken out and the rest resolved anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPlan:
    """A plan with the verified package files that it names."""

    plan: Plan
    packages: tuple[FetchedPackage, ...]
    newest_mtime: int = 0
    """When the newest of them was built, in seconds: the default epoch."""
    excuse: str = ""
    """Why nothing may be run, where that has left packages out."""


def make_plan(job: Job, ways: Ways, left_out: LeftOut) -> PreparedPlan:
    """
    Plan all updates, or those that the job's findings ask for; `left_out` grows by what has to be taken out.

    Raises `RepositoryError`s and `UnreachableError`, `FixesMissingError`, and what `UnsupportedImageError` says of the
    way that was asked for.
    """
    ways.of(job.request.strategy).check()
    repository = open_repositories(job)
    matched, wanted = match(job)
    if not wanted:
        return PreparedPlan(plan=empty_plan(job, matched), packages=())
    return _Rounds(job, ways, repository, left_out).plan(matched, wanted)


def match(job: Job) -> tuple[tuple[MatchedFinding, ...] | None, tuple[Wanted, ...]]:
    """Tell how the job's findings stand in what is installed (None without a report), and what has to change."""
    database = job.opened.database
    if job.findings is None:
        return None, want_everything(database.packages())
    return match_findings(job.findings, database)


def empty_plan(job: Job, matched: tuple[MatchedFinding, ...] | None) -> Plan:
    """Return the plan that changes nothing."""
    opened = job.opened
    return Plan(
        image=opened.image.name,
        image_digest=opened.variant.digest,
        platform=opened.variant.platform,
        distro=opened.distro.pretty_name,
        package_type=opened.database.package_type,
        strategy=Strategy.UNPACK,
        updates=(),
        skipped=(),
        matched=matched,
        notes=opened.database.notes(),
    )


@dataclass(slots=True)
class _Rounds:
    """Resolves, fetches and judges, until what is left can be applied as a whole."""

    job: Job
    ways: Ways
    repository: Repository
    left_out: LeftOut
    excuse: str = ""

    def plan(self, matched: tuple[MatchedFinding, ...] | None, wanted: Sequence[Wanted]) -> PreparedPlan:
        """
        Packages that need execution decide the strategy, or are taken out one by one, as are those that something is
        wrong with.
        """
        for _ in range(MAX_ROUNDS):
            with self.job.session.progress.task("resolve updates"):
                exhaustive, frozen = self.job.findings is None, self.left_out.frozen
                resolution = self.repository.resolve(wanted, exhaustive=exhaustive, frozen=frozen)
            try:
                judged = self.ways.judge(fetch_packages(self.repository, resolution.updates))
            except PACKAGE_FAULTS as error:
                self.left_out.add_faults(error, resolution.updates)
                continue
            packages = judged.packages
            choice = choose_strategy(packages, self.job.request.strategy, self._why_not, forbidden=bool(self.excuse))
            if not self._take_out([package.update for package in packages], choice):
                return PreparedPlan(
                    plan=self._describe(matched, resolution, packages, choice),
                    packages=packages,
                    newest_mtime=judged.newest_mtime,
                    excuse=self.excuse,
                )
        raise FixesMissingError("no set of updates was found that can be applied as a whole")

    def _why_not(self) -> str:
        return self.ways.of(Strategy.EXEC).why_not()

    def _take_out(self, updates: Sequence[PlannedUpdate], choice: Choice) -> bool:
        """Take out what can't be applied in the chosen way; returns whether there was anything."""
        refused = [update for update in updates if refusal(update)]
        offending = [] if choice.strategy is Strategy.EXEC else [u for u in updates if offending_scripts(u)]
        for update in refused:
            detail = refusal(update)
            self.left_out.add(update, SkipReason.UNSUPPORTED, detail, because=detail)
        if offending:
            self.excuse = self.excuse or choice.why_not
        for update in offending:
            if update not in refused:
                detail = describe_offence(update)
                self.left_out.add(update, SkipReason.NEEDS_EXECUTION, detail, because=f"needs execution ({detail})")
        return bool(refused or offending)

    def _describe(
        self,
        matched: tuple[MatchedFinding, ...] | None,
        resolution: Resolution,
        packages: Sequence[FetchedPackage],
        choice: Choice,
    ) -> Plan:
        plan = empty_plan(self.job, matched)
        return replace(
            plan,
            strategy=choice.strategy,
            strategy_reason=choice.reason,
            updates=tuple(package.update for package in packages),
            skipped=(*resolution.skipped, *self.left_out.skipped),
            origins=resolution.origins,
            notes=(
                *plan.notes,
                *(stale_descriptions(self.job.opened) if packages else ()),
                *resolution.notes,
                *self.left_out.notes,
                *filter(None, [self.excuse]),
            ),
        )
