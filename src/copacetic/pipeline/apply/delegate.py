# SPDX-License-Identifier: Apache-2.0
"""
An upgrade that only the builder can plan, for only it reaches the repositories.

The image's own package manager refreshes its indexes, checks their signatures with the image's keys, and upgrades, in
one run. What it did is read from the package database that it left, and written down as the plan; the road then goes
on as for every other plan, and the same proof decides whether it is published.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import cast

from msgspec.structs import replace

from copacetic.errors import CopaError, SolverError, VerificationError
from copacetic.inventory import PackageDatabase, find_again
from copacetic.llb import State
from copacetic.llb.graph import ProxyEnv
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.manifest import layer_media_type
from copacetic.oci.tree import TreeBuilder
from copacetic.pipeline.apply.capture import capture_changes, newest_mtime
from copacetic.pipeline.apply.execute import RecipeStep, run_steps
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pipeline.job import Delegated, Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, finish_layer
from copacetic.pipeline.open.stale import stale_descriptions
from copacetic.pipeline.plan.make import Demands, empty_plan, match
from copacetic.pipeline.plan.match import match_findings
from copacetic.pipeline.plan.sources import open_repositories
from copacetic.pkgmgr import Recipe, Upgrade, open_package_manager
from copacetic.request import Strategy
from copacetic.updates import (
    Candidate,
    InstalledPackage,
    MatchedFinding,
    Origin,
    PackageKey,
    Plan,
    PlannedUpdate,
    Skipped,
    SkipReason,
    Wanted,
)
from copacetic.version import compare_versions

__all__ = ["BuilderDelegate"]

_FRESH = timedelta(minutes=10)
"""A file that is newer than this comes from the run itself, not from a package."""
_ORIGIN = Origin(
    uri="",
    suite="",
    component="",
    defined_in="the image's own configuration, used in the builder",
    not_verified="only the image's own package manager has checked it, in the builder",
)


class BuilderDelegate:
    """Lets a named builder upgrade by itself."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def can_help(self, error: CopaError) -> bool:
        """
        See `Delegate.can_help`: repositories that can't be reached or used from here. What is wrong with a signature
        or a date is wrong everywhere, and repositories that the user names are named to us.
        """
        job = self._job
        if not job.session.has_named_builder or job.session.settings.repository.definitions:
            return False
        return job.request.strategy is not Strategy.UNPACK and error.may_work_elsewhere

    def make(self, compression: str, reason: CopaError) -> Delegated:
        """See `Delegate.make`."""
        try:
            return self._upgrade(compression, str(reason))
        except SolverError as error:
            raise error.reworded(f"{error} (the builder was to upgrade by itself: {reason})") from reason

    def _upgrade(self, compression: str, reason: str) -> Delegated:
        job = self._job
        matched, demands = match(job)
        plan = self._empty(matched, demands, reason)
        names: dict[str, tuple[PackageKey, ...] | None] = {job.opened.own.package_type: None}
        if matched is not None:
            staying = {one.package_type: tuple(_staying(wanted, one)) for one, wanted in demands}
            plan = _with_skipped(plan, staying)
            names = {
                one.package_type: keys for one, wanted in demands if (keys := _names(wanted, staying[one.package_type]))
            }
            if not names:
                return Delegated(plan=plan)
        job.session.progress.note(f"the builder upgrades by itself: {reason}")
        return self._run(names, plan, compression)

    def _run(self, names: Mapping[str, tuple[PackageKey, ...] | None], plan: Plan, compression: str) -> Delegated:
        job, opened = self._job, self._job.opened
        assert job.scratch is not None
        steps = [self._step(opened.inventory(package_type), keys) for package_type, keys in names.items()]
        recipe, layers = run_steps(steps, job)
        started = int((job.session.now - _FRESH).timestamp())
        epoch = newest_mtime(layers, before=started) if job.request.epoch is None else job.request.epoch
        inventories = [opened.inventory(package_type) for package_type in names]
        shipped = Shipped(opened.fs, inventories)
        tree = capture_changes(layers, recipe, shipped, epoch=epoch)
        plan = _with_results(plan, inventories, tree)
        if not plan.updates:
            return Delegated(plan=plan)
        media_type = layer_media_type(opened.variant.manifest, compression)
        request = LayerRequest(packages={}, epoch=epoch, compression=compression, media_type=media_type)
        changes = tree.finish()
        layer = finish_layer(changes, request, job.scratch, job.session.budget.processors)
        return Delegated(plan=plan, epoch=epoch, composed=ComposedLayer(layer=layer, unchanged=changes.unchanged))

    def _step(self, inventory: PackageDatabase, names: tuple[PackageKey, ...] | None) -> RecipeStep:
        manager, upgrade = open_package_manager(self._job.opened.fs, inventory), self._describe(inventory, names)

        def make(base: State, _tooling: State | None) -> Recipe:
            return manager.upgrade(base, upgrade)

        return RecipeStep(manager, make)

    def _describe(self, inventory: PackageDatabase, names: tuple[PackageKey, ...] | None) -> Upgrade:
        settings, proxies = self._job.session.settings, self._job.session.settings.http.proxies
        proxy = ProxyEnv(**{name: proxies.get(name, "") for name in ("http", "https", "no")}) if proxies else None
        return Upgrade(
            names=names,
            repository_state=self._repository_state(inventory),
            proxy=proxy,
            allow_unsigned=settings.repository.allow_unsigned,
            allow_expired=settings.repository.allow_expired,
        )

    def _repository_state(self, inventory: PackageDatabase) -> str:
        """
        Return what the repositories hold, as far as it can be seen from here; otherwise something that never was, so
        that no cache answers with an upgrade to what they held before.
        """
        try:
            return open_repositories(self._job, inventory).state()
        except CopaError:
            return secrets.token_hex(16)

    def _empty(self, matched: tuple[MatchedFinding, ...] | None, demands: Demands, reason: str) -> Plan:
        plan = empty_plan(self._job, matched, demands)
        return replace(
            plan,
            strategy=Strategy.EXEC,
            strategy_reason=f"the builder upgrades by itself: {reason}",
            image_notes=(*plan.image_notes, *stale_descriptions(self._job.opened)),
        )


def _names(wanted: Sequence[Wanted], staying: Sequence[Skipped]) -> tuple[PackageKey, ...]:
    stays = {skipped.package for skipped in staying}
    return tuple(want.package.key for want in wanted if want.package not in stays)


def _with_skipped(plan: Plan, more: Mapping[str, tuple[Skipped, ...]]) -> Plan:
    sections = (replace(one, skipped=(*one.skipped, *more.get(one.package_type, ()))) for one in plan.sections)
    return replace(plan, sections=tuple(sections))


def _with_results(plan: Plan, inventories: Sequence[PackageDatabase], tree: TreeBuilder) -> Plan:
    """Say what has changed in these inventories, and what is still open. The proof finds what has changed in others."""
    sections = {section.package_type: section for section in plan.sections}
    for before in inventories:
        section = sections[before.package_type]
        after = find_again(before, cast(ImageFilesystem, tree))  # it looks, lists and reads; a tree does that
        if after is None:
            raise VerificationError("the result has no package database any more")
        updates = _updates(before, after, plan.matched)
        skipped = (*section.skipped, *_unfixed(plan.matched, after))
        sections[before.package_type] = replace(section, updates=updates, skipped=skipped)
    return replace(plan, sections=tuple(sections.values()))


def _updates(
    before: PackageDatabase, after: PackageDatabase, matched: Sequence[MatchedFinding] | None
) -> tuple[PlannedUpdate, ...]:
    """
    Tell what has changed.

    Raises `VerificationError` for what no upgrade does: a package removed, set back, or changed although held.
    """
    old = {package.key: package for package in before.packages()}
    new = {package.key: package for package in after.packages()}
    for key, package in old.items():
        present = new.get(key)
        if present is None:
            raise VerificationError(f"{key} is not in the result any more")
        if compare_versions(before.version_scheme, present.version, package.version) < 0:
            raise VerificationError(f"{key} went back from {package.version} to {present.version}")
        if package.held and present.version != package.version:
            raise VerificationError(f"{key} is held by the image, and {present.version} in the result")
    return tuple(
        PlannedUpdate(
            installed=old.get(key),
            candidate=_candidate(package),
            findings=tuple(
                one.finding
                for one in matched or ()
                if one.finding.package_type == after.package_type and key in one.packages
            ),
        )
        for key, package in sorted(new.items(), key=lambda item: str(item[0]))
        if key not in old or old[key].version != package.version
    )


def _candidate(package: InstalledPackage) -> Candidate:
    return Candidate(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        instance=package.instance,
        source_name=package.source_name,
        source_version=package.source_version,
        url="",
        size=0,
        sha256="",
        origin=_ORIGIN,
        record=package.record,
    )


def _unfixed(matched: Sequence[MatchedFinding] | None, after: PackageDatabase) -> Iterator[Skipped]:
    """Findings that have a fix and are still open, apart from those of packages that were to stay."""
    _, wanted = match_findings((m.finding for m in matched or ()), after)
    staying = {skipped.package for skipped in _staying(wanted, after)}
    for want in wanted:
        if want.package not in staying and want.needed:
            lack = f"{want.needed}, and the builder's repositories lack it"
            yield want.skip(SkipReason.NO_CANDIDATE, lack)


def _staying(wanted: Sequence[Wanted], database: PackageDatabase) -> Iterator[Skipped]:
    """Name what no package manager would change."""
    assumed = frozenset(database.assumed())
    for want in wanted:
        if want.package in assumed:
            yield want.skip(SkipReason.UNSUPPORTED, "the database in effect doesn't list it")
        elif want.package.held:
            yield want.skip(SkipReason.HELD, "the image holds it at its version")
