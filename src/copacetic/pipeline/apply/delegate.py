# SPDX-License-Identifier: Apache-2.0
"""
An upgrade that only the builder can plan, for only it reaches the repositories.

The image's own package manager refreshes its indexes, checks their signatures with the image's keys, and upgrades, in
one run. What it did is read from the package database that it left, and written down as the plan; then the same proof
as for every other result decides whether it is published.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from copacetic.errors import CopaError, VerificationError
from copacetic.inventory import PackageDatabase, detect_database
from copacetic.llb import State
from copacetic.llb.graph import ProxyEnv
from copacetic.oci.manifest import layer_media_type
from copacetic.pipeline.apply.capture import capture_changes, newest_mtime
from copacetic.pipeline.apply.execute import RecipeMaker, run_recipe
from copacetic.pipeline.apply.kept import LayerRequest, NewLayer, finish_layer
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pipeline.environment import Environment, Execution
from copacetic.pipeline.open.image import OpenedImage, SourceImage
from copacetic.pipeline.open.stale import stale_descriptions
from copacetic.pipeline.plan.make import refuse_incomplete
from copacetic.pipeline.plan.match import match_findings
from copacetic.pipeline.plan.sources import repository_context
from copacetic.pipeline.prove.content import ReadBack, verify_layer, verify_result
from copacetic.pipeline.prove.extent import Side
from copacetic.pkgmgr import Recipe, Upgrade, open_package_manager
from copacetic.repository import open_repository
from copacetic.request import PatchRequest, Strategy
from copacetic.unpack.shipped import Explanation
from copacetic.updates import (
    Candidate,
    Finding,
    InstalledPackage,
    MatchedFinding,
    Origin,
    Plan,
    PlannedUpdate,
    Skipped,
    SkipReason,
    Wanted,
)
from copacetic.version import compare_versions

__all__ = ["Delegated", "upgrade_in_builder"]

_FRESH = timedelta(minutes=10)
"""A file that is newer than this comes from the run itself, not from a package."""
_ORIGIN = Origin(
    uri="",
    suite="",
    component="",
    defined_in="the image's own configuration, used in the builder",
    not_verified="only the image's own package manager has checked it, in the builder",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegated:
    """What the builder did; without a layer there was nothing to do."""

    plan: Plan
    layer: NewLayer | None = None
    epoch: int = 0
    matched: tuple[MatchedFinding, ...] | None = None
    notes: tuple[str, ...] = ()


def _describe(
    names: tuple[str, ...] | None, opened: OpenedImage, environment: Environment, execution: Execution
) -> Upgrade:
    return Upgrade(
        names=names,
        repository_state=repository_state(opened, environment),
        proxy=_proxy(execution),
        allow_unsigned=environment.repository.allow_unsigned,
        allow_expired=environment.repository.allow_expired,
    )


def upgrade_in_builder(
    image: SourceImage,
    opened: OpenedImage,
    request: PatchRequest,
    findings: Sequence[Finding] | None,
    scratch: Path,
    environment: Environment,
    *,
    reason: str,
    compression: str,
) -> Delegated:
    """Let the builder refresh and upgrade, and prove what came of it. `reason` says why it isn't planned here."""
    execution = environment.execution
    assert execution is not None
    installed = opened.database.packages()
    matched: tuple[MatchedFinding, ...] | None = None
    names: tuple[str, ...] | None = None
    plan = _empty_plan(image, opened, reason)
    if findings is not None:
        matched, wanted = match_findings(findings, installed, opened.database.package_type)
        plan = replace(plan, matched=matched, skipped=tuple(_held(want) for want in wanted if want.package.held))
        names = tuple(_key(want.package) for want in wanted if not want.package.held)
        if not names:
            return Delegated(plan=plan)
    make = _upgrade(opened, _describe(names, opened, environment, execution))
    environment.progress.note(f"the builder upgrades by itself: {reason}")
    recipe, layers = run_recipe(make, image, opened, environment, execution, scratch)
    started = int((environment.now - _FRESH).timestamp())
    epoch = newest_mtime(layers, before=started) if request.epoch is None else request.epoch
    shipped = Shipped(opened.fs, opened.database, (), scratch)
    changes = capture_changes(layers, opened.fs, recipe, epoch=epoch, shipped=shipped)
    media_type = layer_media_type(opened.image.manifest, compression)
    layer = finish_layer(
        changes, LayerRequest(packages=(), epoch=epoch, compression=compression, media_type=media_type), scratch
    )
    read_back = ReadBack(layer, opened.database.checksum_algorithm)
    after = read_back.stacked_on(opened.fs)
    database = detect_database(after)
    updates = _updates(opened.database, database, matched)
    left = _unfixed(matched, database, plan.package_type)
    plan = replace(plan, updates=updates, skipped=(*plan.skipped, *left))
    if not request.ignore_errors:
        refuse_incomplete(plan)
    if not updates:
        return Delegated(plan=plan)
    proven = verify_result(plan, before=opened.database, after=after)
    notes = verify_layer(
        plan,
        before=Side(opened.fs, opened.database),
        after=after,
        read_back=read_back,
        unchanged=changes.unchanged,
        explanation=Explanation(),
    )
    return Delegated(plan=plan, layer=layer, epoch=epoch, matched=proven, notes=notes)


def repository_state(opened: OpenedImage, environment: Environment) -> str:
    """
    Return what the repositories hold, as far as it can be seen from here; otherwise something that never was, so
    that no cache answers with an upgrade to what they held before.
    """
    try:
        return open_repository(repository_context(opened, environment)).state()
    except CopaError:
        return secrets.token_hex(16)


def _upgrade(opened: OpenedImage, upgrade: Upgrade) -> RecipeMaker:
    def make(base: State, _tooling: State | None) -> Recipe:
        return open_package_manager(opened.fs, opened.database).upgrade(base, upgrade)

    return make


def _proxy(execution: Execution) -> ProxyEnv | None:
    proxies = execution.proxies
    if not proxies:
        return None
    return ProxyEnv(http=proxies.get("http", ""), https=proxies.get("https", ""), no=proxies.get("no", ""))


def _empty_plan(image: SourceImage, opened: OpenedImage, reason: str) -> Plan:
    return Plan(
        image=image.source.name,
        image_digest=opened.image.descriptor.digest,
        platform=opened.image.platform,
        distro=opened.distro.pretty_name,
        package_type=opened.database.package_type,
        strategy=str(Strategy.EXEC),
        strategy_reason=f"the builder upgrades by itself: {reason}",
        updates=(),
        skipped=(),
        matched=None,
        notes=(*opened.database.notes(), *stale_descriptions(image, opened)),
    )


def _updates(
    before: PackageDatabase, after: PackageDatabase | None, matched: Sequence[MatchedFinding] | None
) -> tuple[PlannedUpdate, ...]:
    """
    Tell what has changed.

    Raises `VerificationError` for what no upgrade does: a package removed, set back, or changed although held.
    """
    if after is None:
        raise VerificationError("the result has no package database any more")
    old = {_key(package): package for package in before.packages()}
    new = {_key(package): package for package in after.packages()}
    for key, package in old.items():
        present = new.get(key)
        if present is None:
            raise VerificationError(f"{key} is not in the result any more")
        if compare_versions(before.package_type, present.version, package.version) < 0:
            raise VerificationError(f"{key} went back from {package.version} to {present.version}")
        if package.held and present.version != package.version:
            raise VerificationError(f"{key} is held by the image, and {present.version} in the result")
    return tuple(
        PlannedUpdate(
            installed=old.get(key),
            candidate=_candidate(package),
            findings=tuple(m.finding for m in matched or () if key in m.packages),
        )
        for key, package in sorted(new.items())
        if key not in old or old[key].version != package.version
    )


def _candidate(package: InstalledPackage) -> Candidate:
    return Candidate(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        source_name=package.source_name,
        source_version=package.source_version,
        url="",
        size=0,
        sha256="",
        origin=_ORIGIN,
        fields=package.fields,
    )


def _unfixed(
    matched: Sequence[MatchedFinding] | None, after: PackageDatabase | None, package_type: str
) -> tuple[Skipped, ...]:
    """Findings that have a fix and are still open."""
    if matched is None or after is None:
        return ()
    _, wanted = match_findings((m.finding for m in matched), after.packages(), package_type)
    return tuple(
        Skipped(
            package=want.package,
            reason=SkipReason.NO_CANDIDATE,
            detail=f"{' and '.join(want.fixed_versions)} or later is needed, and the builder's repositories lack it",
            findings=want.findings,
        )
        for want in wanted
        if not want.package.held
    )


def _held(want: Wanted) -> Skipped:
    return Skipped(
        package=want.package,
        reason=SkipReason.HELD,
        detail="the image holds it at its version",
        findings=want.findings,
    )


def _key(package: InstalledPackage) -> str:
    return f"{package.name}:{package.architecture}"
