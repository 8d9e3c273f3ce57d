# SPDX-License-Identifier: Apache-2.0
"""
The plan for one platform: what changes, from what to what, why, and how.

Planning changes nothing. It does fetch the packages (into the cache, where patching finds them), for only their
scripts tell whether they can be installed without running anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from copacetic.errors import FixesMissingError, NeedsExecutionError, ReportError, UnsupportedImageError
from copacetic.oci import Digest
from copacetic.patch.image import OpenedImage, SourceImage
from copacetic.patch.judge import ScriptJudge
from copacetic.patch.match import match_findings, want_everything
from copacetic.patch.request import Strategy
from copacetic.progress import Progress
from copacetic.repository import Repository
from copacetic.repository.packages import file_digest
from copacetic.updates import (
    FetchedPackage,
    Finding,
    MatchedFinding,
    Plan,
    PlannedUpdate,
    Report,
    Resolution,
    ScriptClass,
    ScriptVerdict,
    Skipped,
    SkipReason,
    Wanted,
)

_KEPT_BACK = frozenset({SkipReason.HELD, SkipReason.DEPENDENCY, SkipReason.NO_CANDIDATE, SkipReason.VENDOR})
"""Why the distribution's own `upgrade` would leave a package as it is, too."""
MAX_ROUNDS = 20
"""How often a package that needs execution may be taken out and the rest resolved anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPlan:
    """A plan with the verified package files that it names."""

    plan: Plan
    packages: tuple[FetchedPackage, ...]
    newest_mtime: int = 0
    """When the newest of them was built, in seconds: the default epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyChoice:
    """What is asked for, and how to find out whether something can run the image's programs."""

    asked: Strategy
    why_not: Callable[[], str]
    """Asked only when it matters; empty means that it is possible."""


@dataclass(slots=True, kw_only=True)
class _Chosen:
    """Resolved, fetched and judged, and how it is going to be applied."""

    resolution: Resolution
    packages: tuple[FetchedPackage, ...] = ()
    newest_mtime: int = 0
    refused: tuple[Skipped, ...] = ()
    strategy: Strategy = Strategy.UNPACK
    reason: str = ""
    notes: tuple[str, ...] = ()


def select_reports(
    reports: Sequence[Report], image: SourceImage, *, lenient: bool
) -> Mapping[Digest, tuple[Finding, ...] | None]:
    """
    Tell which findings concern which platform (by its manifest); None stands for a platform that no report is about.

    Without any report every platform maps to no findings at all, which is handled by the caller.
    Raises `ReportError` when a report is about another image (unless `lenient`).
    """
    found: dict[Digest, tuple[Finding, ...] | None] = {p.digest: None for p in image.platforms}
    for report in reports:
        concerned = _platforms_of(report, image)
        if not concerned and not lenient:
            named = ", ".join(sorted(str(digest) for digest in report.image_digests)) or report.architecture
            message = (
                f"{report.path} is about another image: it names {named}, {image.source.name} is {image.root.digest}"
            )
            hint = "scan this image again; --ignore-errors uses the report all the same"
            raise ReportError(message, hint=hint)
        for digest in concerned or list(found):
            found[digest] = (*(found[digest] or ()), *report.findings)
    return found


def _platforms_of(report: Report, image: SourceImage) -> list[Digest]:
    """A digest of one platform decides; otherwise the architecture does, and one that names neither is about all."""
    if report.image_digests:
        exact = [p for p in image.platforms if p.digests & report.image_digests]
        if exact:
            return [p.digest for p in exact]
        if image.root.digest not in report.image_digests:
            return []
    return [
        p.digest for p in image.platforms if not report.architecture or report.architecture == p.platform.architecture
    ]


def make_plan(
    source_name: str,
    opened: OpenedImage,
    repository: Repository,
    judge: ScriptJudge,
    *,
    findings: Sequence[Finding] | None,
    choice: StrategyChoice,
    progress: Progress,
    stale: Callable[[], Sequence[str]] = tuple,
) -> PreparedPlan:
    """
    Plan all updates (`findings` is None), or those that the findings ask for.

    `stale` says what won't be true of the image any more; asked only when something changes.
    """
    installed = opened.database.packages()
    matched: tuple[MatchedFinding, ...] | None = None
    if findings is None:
        wanted = want_everything(installed)
    else:
        database = opened.database
        present = (*installed, *database.assumed())
        matched, wanted = match_findings(findings, present, database.package_type, scheme=database.version_scheme)
    chosen = _resolve(repository, judge, wanted, choice, exhaustive=findings is None, progress=progress)
    plan = Plan(
        image=source_name,
        image_digest=opened.image.descriptor.digest,
        platform=opened.image.platform,
        distro=opened.distro.pretty_name,
        package_type=opened.database.package_type,
        strategy=str(chosen.strategy),
        strategy_reason=chosen.reason,
        updates=tuple(package.update for package in chosen.packages),
        skipped=(*chosen.resolution.skipped, *chosen.refused),
        matched=matched,
        origins=chosen.resolution.origins,
        notes=(
            *opened.database.notes(),
            *(stale() if chosen.packages else ()),
            *chosen.resolution.notes,
            *chosen.notes,
        ),
    )
    return PreparedPlan(plan=plan, packages=chosen.packages, newest_mtime=chosen.newest_mtime)


def _resolve(
    repository: Repository,
    judge: ScriptJudge,
    wanted: Sequence[Wanted],
    choice: StrategyChoice,
    *,
    exhaustive: bool,
    progress: Progress,
) -> _Chosen:
    """Resolve, fetch and judge; packages that need execution decide the strategy, or are taken out one by one."""
    if not wanted:
        return _Chosen(resolution=Resolution(updates=(), skipped=(), origins=()))
    frozen: dict[str, str] = {}
    refused: list[Skipped] = []
    notes: list[str] = []
    for _ in range(MAX_ROUNDS):
        with progress.task("resolve updates"):
            resolution = repository.resolve(wanted, exhaustive=exhaustive, frozen=frozen)
        judged = judge.judge(fetch_packages(repository, resolution.updates, progress))
        packages = judged.packages
        strategy, reason, excuse = choose_strategy(packages, choice, forbidden=bool(notes))
        refusals = [package.update for package in packages if _offending(package.update)]
        if strategy is Strategy.EXEC or not refusals:
            return _Chosen(
                resolution=resolution,
                packages=packages,
                newest_mtime=judged.newest_mtime,
                refused=tuple(refused),
                strategy=strategy,
                reason=reason,
                notes=tuple(notes),
            )
        notes = notes or [excuse]
        for update in refusals:
            detail = describe_offence(update)
            frozen[_key(update)] = f"needs execution ({detail})"
            if update.installed is not None:
                refused.append(
                    Skipped(
                        package=update.installed,
                        reason=SkipReason.NEEDS_EXECUTION,
                        detail=detail,
                        findings=update.findings,
                    )
                )
    raise FixesMissingError("no set of updates without packages that need execution was found")


def choose_strategy(
    packages: Sequence[FetchedPackage], choice: StrategyChoice, *, forbidden: bool = False
) -> tuple[Strategy, str, str]:
    """
    Decide how judged packages are applied: the strategy, why in one line, and why it isn't the other one.

    `forbidden` says that execution was found impossible before.
    """
    if choice.asked is not Strategy.AUTO:
        asked = f"--strategy {choice.asked} asks for it"
        return choice.asked, asked, f"--strategy {choice.asked} forbids to run anything"
    offending = [package.update for package in packages if _offending(package.update)]
    if not offending:
        return Strategy.UNPACK, "no script of these packages has to be run", ""
    excuse = "" if forbidden else choice.why_not()
    if forbidden or excuse:
        return Strategy.UNPACK, "", f"scripts can't be run: {excuse}"
    more = f", and {len(offending) - 1} more" if len(offending) > 1 else ""
    return Strategy.EXEC, f"{offending[0].candidate.name}: {describe_offence(offending[0])}{more}", ""


def describe_offence(update: PlannedUpdate) -> str:
    """Say which scripts of a package have to be run, and why."""
    return "; ".join(f"{script.script}: {script.reason}" for script in _offending(update))


def fetch_packages(
    repository: Repository, updates: Sequence[PlannedUpdate], progress: Progress
) -> tuple[FetchedPackage, ...]:
    """Fetch what the updates name; from here on every candidate has the SHA-256 of its file."""
    if not updates:
        return ()
    paths = repository.fetch([update.candidate for update in updates])
    return tuple(FetchedPackage(update=_pinned(u, paths[u.candidate]), path=paths[u.candidate]) for u in updates)


def _pinned(update: PlannedUpdate, path: Path) -> PlannedUpdate:
    if update.candidate.sha256:
        return update
    return replace(update, candidate=replace(update.candidate, sha256=file_digest(path)))


def _key(update: PlannedUpdate) -> str:
    return f"{update.candidate.name}:{update.candidate.architecture}"


def _offending(update: PlannedUpdate) -> list[ScriptVerdict]:
    return [script for script in update.scripts if script.verdict is ScriptClass.NEEDS_EXECUTION]


def refuse_incomplete(plan: Plan) -> None:
    """
    Raise when the plan leaves out something that was asked for.

    With a report that is every fix that can't be delivered, also one for a package on hold: whoever asked for it has
    to know. Without one, packages that the distribution's own `upgrade` would keep back too are no failure.
    """
    kept_back = _KEPT_BACK if plan.matched is None else frozenset()
    missing = [skipped for skipped in plan.skipped if skipped.reason not in kept_back]
    if not missing:
        return
    first = missing[0]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    message = f"{first.package.name} {first.package.version} can't be updated: {first.detail}{more}"
    if all(skipped.reason is SkipReason.NEEDS_EXECUTION for skipped in missing):
        excuse = f"{plan.notes[-1]}; " if plan.notes else ""
        raise NeedsExecutionError(message, hint=f"{excuse}{NeedsExecutionError.hint}")
    raise FixesMissingError(message)


def check_plan(plan: Plan, opened: OpenedImage) -> Plan:
    """
    Hold a stored plan against the image that it is going to be applied to, and complete it from its database.

    Raises `UnsupportedImageError` or `FixesMissingError` when the image isn't the one that was planned for.
    """
    if plan.package_type != opened.database.package_type:
        message = f"the plan is for {plan.package_type} packages, the image has {opened.database.package_type}"
        raise UnsupportedImageError(message)
    present = {(p.name, p.architecture): p for p in opened.database.packages()}
    by_name = {p.name: p for p in opened.database.packages()}
    updates = []
    for update in plan.updates:
        candidate = update.candidate
        installed = present.get((candidate.name, candidate.architecture))
        if installed is None and update.installed is not None:
            installed = by_name.get(candidate.name)  # one that becomes, or ceases to be, architecture-independent
        planned = update.installed.version if update.installed else None
        actual = installed.version if installed else None
        if planned != actual:
            raise FixesMissingError(
                f"{_key(update)} is {actual or 'not installed'}, the plan starts from {planned or 'nothing'}"
            )
        updates.append(replace(update, installed=installed))
    return replace(plan, updates=tuple(updates))
