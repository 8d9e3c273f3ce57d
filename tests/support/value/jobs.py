# SPDX-License-Identifier: Apache-2.0
"""
What a station of the road is given: a real image in memory, what is asked of it, and repositories and ways that do as
they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from msgspec import Struct

from copacetic.inventory import PackageDatabase
from copacetic.oci.location import Location
from copacetic.pipeline.job import Applier, Job, Judged, Ways
from copacetic.pipeline.open.image import OpenedImage, load_image, recognise
from copacetic.progress import Silent
from copacetic.repository import Repository
from copacetic.request import PatchRequest, Strategy
from copacetic.session import ImageAccess, Session
from copacetic.updates import (
    Candidate,
    FetchedPackage,
    Finding,
    PackageKey,
    PlannedUpdate,
    Resolution,
    ScriptVerdict,
    Skipped,
    SkipReason,
    Wanted,
)
from support.image.images import Image, MemorySource, make_image, make_layer, tar_file
from support.image.programs import program_items
from support.image.trees import stack
from support.value.replacing import replace
from support.value.values import ORIGIN

NAME = "registry.example/web:1"
OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'


def open_in_memory(
    files: Mapping[str, bytes | str],
    *,
    location: str = NAME,
    programs: bool = False,
    index: Callable[[Image], Image] | None = None,
    **more: Any,
) -> OpenedImage:
    """
    Open an image of one layer, with the `programs` that a run needs; `index` puts it into one, and `more` goes to its
    making.
    """
    items = [tar_file(path, data) for path, data in {"etc/os-release": OS_RELEASE, **files}.items()]
    layer = make_layer([*items, *(program_items() if programs else ())])
    image = make_image([layer], **more)
    source = MemorySource(index(image) if index is not None else image, NAME)
    found = load_image(ImageAccess(location=Location.parse(location), source=source), ())
    return recognise(found, found.variants[0], stack(layer.plain))


def job(
    opened: OpenedImage,
    *findings: Finding,
    everything: bool = False,
    scratch: Path | None = None,
    session: Session | None = None,
    **asked: object,
) -> Job:
    """Ask for findings' fixes, or for `everything`; `asked` are fields of the request."""
    request = PatchRequest(image=NAME, **asked)  # type: ignore[arg-type]
    means = session or cast(Session, SimpleNamespace(progress=Silent()))
    wanted = None if everything else findings
    return Job(opened=opened, request=request, findings=wanted, scratch=scratch, session=means)


class Offers:
    """A repository that has these packages, each with what comes in for its sake."""

    def __init__(self, *offered: Candidate, needs: Mapping[str, Sequence[Candidate]] | None = None) -> None:
        self.offered = {one.name: one for one in offered}
        self.needs = needs or {}
        self.asked: list[tuple[tuple[str, ...], bool, Mapping[PackageKey, str]]] = []
        """Each time: which packages, whether the newest is wanted, and what is to stay."""

    def resolve(
        self, wanted: Sequence[Wanted], *, exhaustive: bool, frozen: Mapping[PackageKey, str] | None = None
    ) -> Resolution:
        stays = dict(frozen or {})
        self.asked.append((tuple(want.package.name for want in wanted), exhaustive, stays))
        updates: list[PlannedUpdate] = []
        skipped: list[Skipped] = []
        for want in wanted:
            candidate = self.offered.get(want.package.name)
            if want.package.key in stays or candidate is None:
                continue
            new = self.needs.get(candidate.name, ())
            lacking = next((stays[one.key] for one in new if one.key in stays), None)
            if lacking is not None:
                skipped.append(want.skip(SkipReason.DEPENDENCY, lacking))
                continue
            updates.append(PlannedUpdate(installed=want.package, candidate=candidate, findings=want.findings))
            updates += [PlannedUpdate(installed=None, candidate=one, required_by=(candidate.name,)) for one in new]
        return Resolution(updates=tuple(updates), skipped=tuple(skipped), origins=(ORIGIN,), notes=("resolved",))

    def vouch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Candidate]:
        return {one: self.offered[one.name] for one in candidates if one.name in self.offered}

    def state(self) -> str:
        return "state"

    def fetch(
        self, candidates: Sequence[Candidate], arrived: Callable[[Candidate, Path], None] | None = None
    ) -> Mapping[Candidate, Path]:
        return {one: Path(one.name) for one in candidates}

    def remarks(self) -> tuple[str, ...]:
        return ()

    @classmethod
    def open(cls, context: object) -> Offers:
        raise NotImplementedError


_: type[Repository] = Offers


class Way(Struct):
    """One that makes nothing."""

    refusal: Exception | None = None
    obstacle: str = ""
    asked: list[Collection[str]] = []
    """For which types of package it was asked whether it can be used."""

    def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def why_not(self, package_types: Collection[str]) -> str:
        self.asked.append(tuple(package_types))
        return self.obstacle


class Told:
    """Ways that judge packages as they are told, by name; an error stands for a package that can't be read."""

    def __init__(self, execute: Way | None = None, **verdicts: Sequence[ScriptVerdict] | Exception) -> None:
        self.verdicts = verdicts
        self.ways = {Strategy.EXEC: execute or Way()}
        self.judged: list[tuple[str, ...]] = []

    def of(self, strategy: Strategy) -> Applier:
        return cast(Applier, self.ways.setdefault(strategy, Way()))

    def judge(self, inventory: PackageDatabase, updates: Sequence[PlannedUpdate], repository: Repository) -> Judged:
        self.judged.append(tuple(update.candidate.name for update in updates))
        found: list[FetchedPackage] = []
        for update in updates:
            said = self.verdicts.get(update.candidate.name, ())
            if isinstance(said, Exception):
                raise said
            found.append(FetchedPackage(update=replace(update, scripts=tuple(said)), path=Path(update.candidate.name)))
        return Judged(packages=tuple(found), newest_mtime=len(found))

    @property
    def seam(self) -> Ways:
        return cast(Ways, self)
