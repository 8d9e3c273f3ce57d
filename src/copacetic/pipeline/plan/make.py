# SPDX-License-Identifier: Apache-2.0
"""
The plan for one platform: what changes, from what to what, why, and how.

Planning changes nothing. It does fetch the packages (into the cache, where patching finds them), for only their
scripts tell whether they can be installed without running anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from copacetic.errors import (
    PACKAGE_FAULTS,
    ConflictError,
    CopaError,
    FixesMissingError,
    IntegrityError,
    NeedsExecutionError,
    PackageError,
    ReportError,
    UnsupportedImageError,
)
from copacetic.oci import Digest
from copacetic.pipeline.open.image import OpenedImage, SourceImage
from copacetic.pipeline.plan.judge import ScriptJudge
from copacetic.pipeline.plan.match import match_findings, want_everything
from copacetic.progress import Progress
from copacetic.repository import Repository
from copacetic.repository.packages import file_digest
from copacetic.request import Strategy
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

MAX_ROUNDS = 40
"""How often packages that can't be applied may be taken out and the rest resolved anew."""

_KEPT_BACK = frozenset(
    {SkipReason.HELD, SkipReason.DEPENDENCY, SkipReason.NO_CANDIDATE, SkipReason.CONFLICT, SkipReason.VENDOR}
)
"""Why the distribution's own `upgrade` would leave a package as it is, too."""


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


@dataclass(slots=True, kw_only=True)
class LeftOut:
    """The packages that were taken out of a plan, for as long as the rest is resolved anew."""

    tolerant: bool = False
    """Whether a file that isn't what the index promises may be left out; otherwise that ends everything."""
    frozen: dict[str, str] = field(default_factory=dict)
    """The reasons by `name:architecture`, as resolving wants them."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, update: PlannedUpdate, reason: SkipReason, detail: str, *, because: str) -> None:
        """Take one out; `because` is what is said of others that can't do without it."""
        self.frozen[_key(update)] = because
        installed = update.installed
        if installed is None:
            self.notes.append(f"{update.candidate.name} {update.candidate.version} is left out: {because}")
            return
        self.frozen[f"{installed.name}:{installed.architecture}"] = because
        self.skipped.append(Skipped(package=installed, reason=reason, detail=detail, findings=update.findings))

    def add_faults(self, error: CopaError, updates: Sequence[PlannedUpdate]) -> None:
        """Take out what something is wrong with. Raises the error again when that is no package of these."""
        known = {_key(update): update for update in updates if _key(update) not in self.frozen}
        for one in (error, *error.also):
            if isinstance(one, IntegrityError) and not self.tolerant:
                raise type(one)(str(one), hint="--ignore-errors leaves this package as it is, by name") from error
            if one.package not in known:
                raise error
            detail = f"{one} ({one.hint})" if isinstance(one, PackageError) and one.hint else str(one)
            reason = SkipReason.CONFLICT if isinstance(one, ConflictError) else SkipReason.BROKEN
            self.add(known[one.package], reason, detail, because=detail)


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
    left_out: LeftOut | None = None,
    stale: Callable[[], Sequence[str]] = tuple,
) -> PreparedPlan:
    """
    Plan all updates (`findings` is None), or those that the findings ask for.

    `left_out` grows by what has to be taken out. `stale` says what won't be true of the image any more; asked only when
    something changes.
    """
    installed = opened.database.packages()
    left_out = left_out or LeftOut()
    matched: tuple[MatchedFinding, ...] | None = None
    if findings is None:
        wanted = want_everything(installed)
    else:
        database = opened.database
        present = (*installed, *database.assumed())
        matched, wanted = match_findings(findings, present, database.package_type, scheme=database.version_scheme)
    chosen = _resolve(repository, judge, wanted, choice, left_out, exhaustive=findings is None, progress=progress)
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
    left_out: LeftOut,
    *,
    exhaustive: bool,
    progress: Progress,
) -> _Chosen:
    """
    Resolve, fetch and judge. Packages that need execution decide the strategy, or are taken out one by one, as are
    those that something is wrong with.
    """
    if not wanted:
        return _Chosen(resolution=Resolution(updates=(), skipped=(), origins=()))
    excuse = ""
    for _ in range(MAX_ROUNDS):
        with progress.task("resolve updates"):
            resolution = repository.resolve(wanted, exhaustive=exhaustive, frozen=left_out.frozen)
        try:
            judged = judge.judge(fetch_packages(repository, resolution.updates, progress))
        except PACKAGE_FAULTS as error:
            left_out.add_faults(error, resolution.updates)
            continue
        packages = judged.packages
        strategy, reason, why_not = choose_strategy(packages, choice, forbidden=bool(excuse))
        refused = [package.update for package in packages if _refusal(package.update)]
        offending = [] if strategy is Strategy.EXEC else [p.update for p in packages if _offending(p.update)]
        if not refused and not offending:
            return _Chosen(
                resolution=resolution,
                packages=packages,
                newest_mtime=judged.newest_mtime,
                refused=tuple(left_out.skipped),
                strategy=strategy,
                reason=reason,
                notes=(*left_out.notes, *filter(None, [excuse])),
            )
        for update in refused:
            detail = _refusal(update)
            left_out.add(update, SkipReason.UNSUPPORTED, detail, because=detail)
        if offending:
            excuse = excuse or why_not
        for update in offending:
            if update not in refused:
                detail = describe_offence(update)
                left_out.add(update, SkipReason.NEEDS_EXECUTION, detail, because=f"needs execution ({detail})")
    raise FixesMissingError("no set of updates was found that can be applied as a whole")


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


def _refusal(update: PlannedUpdate) -> str:
    """Say why a package can't be brought into this image at all; empty when it can."""
    return next((script.reason for script in update.scripts if script.verdict is ScriptClass.REFUSED), "")


def _offending(update: PlannedUpdate) -> list[ScriptVerdict]:
    return [script for script in update.scripts if script.verdict is ScriptClass.NEEDS_EXECUTION]


def refuse_incomplete(plan: Plan) -> None:
    """
    Raise when the plan leaves out something that was asked for.

    With a report that is every fix that can't be delivered, also one for a package on hold: whoever asked for it has
    to know. Without one, packages that the distribution's own `upgrade` would keep back too are no failure, nor are
    those that the image as it is has no place for.
    """
    kept_back = _KEPT_BACK if plan.matched is None else frozenset[SkipReason]()
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
