# SPDX-License-Identifier: Apache-2.0
"""
The plan for one variant: what changes, from what to what, why, and how.

Planning changes nothing. It does fetch the packages (into the cache, where patching finds them), for only their
scripts tell whether they can be installed without running anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import PACKAGE_FAULTS, FixesMissingError
from copacetic.inventory import PackageDatabase
from copacetic.pipeline.job import Job, Judged, Ways
from copacetic.pipeline.layer import Packages
from copacetic.pipeline.open.stale import stale_descriptions
from copacetic.pipeline.plan.leftout import LeftOut, LeftOutByType
from copacetic.pipeline.plan.match import match_inventories, rate_findings, want_everything
from copacetic.pipeline.plan.sources import open_repositories
from copacetic.pipeline.plan.strategy import Choice, choose_strategy, describe_offence, offending_scripts, refusal
from copacetic.report.grammar import specify
from copacetic.repository import Repository
from copacetic.request import Strategy
from copacetic.updates import MatchedFinding, Plan, Resolution, Section, SkipReason, Wanted

__all__ = ["Demands", "PreparedPlan", "empty_plan", "make_plan", "match"]

Demands = Sequence[tuple[PackageDatabase, tuple[Wanted, ...]]]
"""What has to change, by inventory; none without anything."""

MAX_ROUNDS = 40
"""How often packages that can't be applied may be taken out and the rest resolved anew."""


class PreparedPlan(Struct, frozen=True, kw_only=True):
    """A plan with the verified package files that it names."""

    plan: Plan
    packages: Packages = {}
    newest_mtime: int = 0
    """When the newest of them was built, in seconds: the default epoch."""
    excuse: str = ""
    """Why nothing may be run, where that has left packages out."""


def make_plan(job: Job, ways: Ways, left_out: LeftOutByType) -> PreparedPlan:
    """
    Plan all updates, or those that the job's findings ask for; `left_out` grows by what has to be taken out.

    Raises `RepositoryError`s and `UnreachableError`, `FixesMissingError`, and what `UnsupportedImageError` says of the
    way that was asked for.
    """
    ways.of(job.request.strategy).check()
    own = open_repositories(job, job.opened.own)
    matched, demands = match(job)
    targets = [
        _Target(
            inventory=inventory,
            wanted=wanted,
            repository=own if inventory is job.opened.own else open_repositories(job, inventory),
            left_out=left_out[inventory.package_type],
        )
        for inventory, wanted in demands
    ]
    if not targets:
        return PreparedPlan(plan=empty_plan(job, matched, ()))
    return _Rounds(job, ways, targets).plan(matched)


def match(job: Job) -> tuple[tuple[MatchedFinding, ...] | None, Demands]:
    """
    Tell how the job's findings stand in what is installed (None without a report), and what has to change.

    A report asks for what it names, whichever database lists it. Without one, what the distribution itself would
    upgrade is asked for.
    """
    own, inventories = job.opened.own, job.opened.inventories
    if job.findings is None:
        return None, [(own, wanted) for wanted in (want_everything(own.packages()),) if wanted]
    findings = (specify(finding, own.package_type) for finding in job.findings)
    matched, by_inventory = match_inventories(findings, inventories)
    return matched, [pair for pair in zip(inventories, by_inventory, strict=True) if pair[1]]


def empty_plan(job: Job, matched: tuple[MatchedFinding, ...] | None, demands: Demands) -> Plan:
    """Return the plan that changes nothing: with a section for the distribution, and for each demand."""
    opened = job.opened
    asked = [one for one in opened.inventories if one is opened.own or one in (inventory for inventory, _ in demands)]
    return Plan(
        image=opened.image.name,
        image_digest=opened.variant.digest,
        platform=opened.variant.platform,
        distro=opened.distro.pretty_name,
        strategy=Strategy.UNPACK,
        sections=tuple(Section(package_type=one.package_type, notes=one.notes()) for one in asked),
        matched=matched,
        image_notes=tuple(
            f"the {one.package_type} packages in {one.path} ({len(one.packages())}) aren't the distribution's own, and "
            "stay as they are"
            for one in opened.inventories
            if one not in asked
        ),
    )


class _Target(Struct, frozen=True, kw_only=True):
    """One inventory with what has to change in it."""

    inventory: PackageDatabase
    wanted: tuple[Wanted, ...]
    repository: Repository
    left_out: LeftOut

    @property
    def package_type(self) -> str:
        return self.inventory.package_type


@dataclass(slots=True)
class _Rounds:
    """Resolves, fetches and judges, until what is left can be applied as a whole."""

    job: Job
    ways: Ways
    targets: Sequence[_Target]
    excuse: str = ""

    def plan(self, matched: tuple[MatchedFinding, ...] | None) -> PreparedPlan:
        """
        Packages that need execution decide the strategy, or are taken out one by one, as are those that something is
        wrong with.
        """
        for _ in range(MAX_ROUNDS):
            with self.job.session.progress.task("resolve updates"):
                resolutions = [self._resolve(target) for target in self.targets]
            judged = self._judge(resolutions)
            if judged is None:
                continue
            packages = {package_type: one.packages for package_type, one in judged.items() if one.packages}
            choice = self._choose(packages)
            if not self._take_out(packages, choice):
                return PreparedPlan(
                    plan=self._describe(matched, resolutions, packages, choice),
                    packages=packages,
                    newest_mtime=max(one.newest_mtime for one in judged.values()),
                    excuse=self.excuse,
                )
        raise FixesMissingError("no set of updates was found that can be applied as a whole")

    def _resolve(self, target: _Target) -> Resolution:
        exhaustive, frozen = any(want.is_open_ended for want in target.wanted), target.left_out.frozen
        return target.repository.resolve(target.wanted, exhaustive=exhaustive, frozen=frozen)

    def _judge(self, resolutions: Sequence[Resolution]) -> Mapping[str, Judged] | None:
        """Fetch and judge; None when something was wrong with packages, which are taken out now."""
        judged: dict[str, Judged] = {}
        for target, resolution in zip(self.targets, resolutions, strict=True):
            try:
                work = target.inventory, resolution.updates, target.repository
                judged[target.package_type] = self.ways.judge(*work)
            except PACKAGE_FAULTS as error:
                target.left_out.add_faults(error, resolution.updates)
                return None
        return judged

    def _choose(self, packages: Packages) -> Choice:
        def why_not() -> str:
            return self.ways.of(Strategy.EXEC).why_not(packages.keys())

        every = list(chain.from_iterable(packages.values()))
        return choose_strategy(every, self.job.request.strategy, why_not, forbidden=bool(self.excuse))

    def _take_out(self, packages: Packages, choice: Choice) -> bool:
        """Take out what can't be applied in the chosen way; returns whether there was anything."""
        found = False
        for target in self.targets:
            updates = [package.update for package in packages.get(target.package_type, ())]
            refused = [update for update in updates if refusal(update)]
            offending = [] if choice.strategy is Strategy.EXEC else [u for u in updates if offending_scripts(u)]
            for update in refused:
                detail = refusal(update)
                target.left_out.add(update, SkipReason.UNSUPPORTED, detail, because=detail)
            if offending:
                self.excuse = self.excuse or choice.why_not
            for update in offending:
                if update not in refused:
                    detail = describe_offence(update)
                    because = f"needs execution ({detail})"
                    target.left_out.add(update, SkipReason.NEEDS_EXECUTION, detail, because=because)
            found = found or bool(refused or offending)
        return found

    def _describe(
        self,
        matched: tuple[MatchedFinding, ...] | None,
        resolutions: Sequence[Resolution],
        packages: Packages,
        choice: Choice,
    ) -> Plan:
        severities = dict(chain.from_iterable(resolution.severities.items() for resolution in resolutions))
        matched = rate_findings(matched, severities)
        plan = empty_plan(self.job, matched, [(target.inventory, target.wanted) for target in self.targets])
        sections = {section.package_type: section for section in plan.sections}
        for target, resolution in zip(self.targets, resolutions, strict=True):
            section, left_out = sections[target.package_type], target.left_out
            sections[target.package_type] = replace(
                section,
                updates=tuple(package.update for package in packages.get(target.package_type, ())),
                skipped=(*resolution.skipped, *left_out.skipped),
                origins=resolution.origins,
                notes=(*section.notes, *resolution.notes, *target.repository.remarks(), *left_out.notes),
            )
        return replace(
            plan,
            strategy=choice.strategy,
            strategy_reason=choice.reason,
            sections=tuple(sections.values()),
            image_notes=(
                *plan.image_notes,
                *(stale_descriptions(self.job.opened) if packages else ()),
                *filter(None, [self.excuse]),
            ),
        )
