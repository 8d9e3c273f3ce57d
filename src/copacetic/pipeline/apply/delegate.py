# SPDX-License-Identifier: Apache-2.0
"""
An upgrade that only the builder can plan, for only it reaches the repositories.

The image's own package manager refreshes its indexes, checks their signatures with the image's keys, and upgrades, in
one run. What it did is read from the package database that it left, and written down as the plan; the road then goes
on as for every other plan, and the same proof decides whether it is published.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

from copacetic.errors import CopaError, SolverError, VerificationError
from copacetic.inventory import PackageDatabase, detect_database
from copacetic.llb import State
from copacetic.llb.graph import ProxyEnv
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.manifest import layer_media_type
from copacetic.pipeline.apply.capture import capture_changes, newest_mtime
from copacetic.pipeline.apply.execute import run_recipe
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pipeline.job import Delegated, Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, finish_layer
from copacetic.pipeline.open.stale import stale_descriptions
from copacetic.pipeline.plan.make import empty_plan, match
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
            message = f"{error} (the builder was to upgrade by itself: {reason})"
            raise type(error)(message, hint=error.hint) from reason

    def _upgrade(self, compression: str, reason: str) -> Delegated:
        job = self._job
        matched, wanted = match(job)
        plan = self._empty(matched, reason)
        names: tuple[PackageKey, ...] | None = None
        if matched is not None:
            plan = replace(plan, skipped=tuple(_staying(wanted, job.opened.database)))
            staying = {skipped.package for skipped in plan.skipped}
            names = tuple(want.package.key for want in wanted if want.package not in staying)
            if not names:
                return Delegated(plan=plan)
        job.session.progress.note(f"the builder upgrades by itself: {reason}")
        return self._run(names, plan, compression)

    def _run(self, names: tuple[PackageKey, ...] | None, plan: Plan, compression: str) -> Delegated:
        job, opened = self._job, self._job.opened
        assert job.scratch is not None
        upgrade = self._describe(names)

        def make(base: State, _tooling: State | None) -> Recipe:
            return open_package_manager(opened.fs, opened.database).upgrade(base, upgrade)

        recipe, layers = run_recipe(make, job)
        started = int((job.session.now - _FRESH).timestamp())
        epoch = newest_mtime(layers, before=started) if job.request.epoch is None else job.request.epoch
        shipped = Shipped(opened.fs, opened.database)
        tree = capture_changes(layers, opened.fs, recipe, epoch=epoch, shipped=shipped)
        database = detect_database(cast(ImageFilesystem, tree))  # it looks, lists and reads; a tree does that
        if database is None:
            raise VerificationError("the result has no package database any more")
        updates = _updates(opened.database, database, plan.matched)
        plan = replace(plan, updates=updates, skipped=(*plan.skipped, *_unfixed(plan.matched, database)))
        if not updates:
            return Delegated(plan=plan)
        media_type = layer_media_type(opened.variant.manifest, compression)
        request = LayerRequest(packages=(), epoch=epoch, compression=compression, media_type=media_type)
        changes = tree.finish()
        layer = finish_layer(changes, request, job.scratch, job.session.budget.processors)
        return Delegated(plan=plan, epoch=epoch, composed=ComposedLayer(layer=layer, unchanged=changes.unchanged))

    def _describe(self, names: tuple[PackageKey, ...] | None) -> Upgrade:
        settings, proxies = self._job.session.settings, self._job.session.settings.http.proxies
        proxy = ProxyEnv(**{name: proxies.get(name, "") for name in ("http", "https", "no")}) if proxies else None
        return Upgrade(
            names=names,
            repository_state=self._repository_state(),
            proxy=proxy,
            allow_unsigned=settings.repository.allow_unsigned,
            allow_expired=settings.repository.allow_expired,
        )

    def _repository_state(self) -> str:
        """
        Return what the repositories hold, as far as it can be seen from here; otherwise something that never was, so
        that no cache answers with an upgrade to what they held before.
        """
        try:
            return open_repositories(self._job).state()
        except CopaError:
            return secrets.token_hex(16)

    def _empty(self, matched: tuple[MatchedFinding, ...] | None, reason: str) -> Plan:
        plan = empty_plan(self._job, matched)
        return replace(
            plan,
            strategy=Strategy.EXEC,
            strategy_reason=f"the builder upgrades by itself: {reason}",
            notes=(*plan.notes, *stale_descriptions(self._job.opened)),
        )


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
            findings=tuple(m.finding for m in matched or () if key in m.packages),
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
        if want.package not in staying:
            lack = f"{want.needed}, and the builder's repositories lack it"
            yield _skip(want, SkipReason.NO_CANDIDATE, lack)


def _staying(wanted: Sequence[Wanted], database: PackageDatabase) -> Iterator[Skipped]:
    """Name what no package manager would change."""
    assumed = frozenset(database.assumed())
    for want in wanted:
        if want.package in assumed:
            yield _skip(want, SkipReason.UNSUPPORTED, "the database in effect doesn't list it")
        elif want.package.held:
            yield _skip(want, SkipReason.HELD, "the image holds it at its version")


def _skip(want: Wanted, reason: SkipReason, detail: str) -> Skipped:
    return Skipped(package=want.package, reason=reason, detail=detail, findings=want.findings)
