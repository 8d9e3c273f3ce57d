# SPDX-License-Identifier: Apache-2.0
"""
One variant of an image on its way, and the seam behind which the ways to apply a plan differ.

`Job` is what every station is given; what a station makes of it is returned, and handed to the next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from copacetic.errors import CopaError
from copacetic.inventory import PackageDatabase
from copacetic.oci import Digest
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, Packages
from copacetic.pipeline.open.image import OpenedImage
from copacetic.repository import Repository
from copacetic.request import PatchRequest, Strategy
from copacetic.session import Session
from copacetic.updates import FetchedPackage, Finding, Plan, PlannedUpdate

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition

__all__ = ["Applier", "Delegate", "Delegated", "Job", "Judged", "Ways"]


class Job(Struct, frozen=True, kw_only=True):
    """What is asked of one variant, and by what means."""

    opened: OpenedImage
    request: PatchRequest
    findings: tuple[Finding, ...] | None
    """None asks for every available update."""
    stored: Plan | None = None
    """The plan to apply; None makes one."""
    scratch: Path | None = None
    """A private empty directory; None where nothing is going to be applied."""
    session: Session


class Judged(Struct, frozen=True, kw_only=True):
    """Packages of one inventory with the verdicts about their scripts."""

    packages: tuple[FetchedPackage, ...]
    newest_mtime: int
    """When the newest of them was built, in seconds: the default epoch."""


class Applier(Protocol):
    """A way to make one layer of packages. Nothing is written but in the job's scratch folder, and nothing proven."""

    @property
    def base(self) -> tuple[Digest, ...]:
        """What of the image determines the layer besides what `ComposedLayer.reads` has: its diff_ids, or nothing."""
        ...

    def check(self) -> None:
        """Raise `UnsupportedImageError` for an image that this way has no use for, before all the work."""
        ...

    def why_not(self, package_types: Collection[str]) -> str:
        """
        Tell why packages of these types can't be applied so, in one line; empty when they can. May connect to a
        builder.
        """
        ...

    def describe(self, packages: Packages) -> Definition | None:
        """Return the graph that would be solved, if any; no solver is asked."""
        ...

    def make(self, request: LayerRequest) -> ComposedLayer:
        """Raises `NeedsExecutionError` and `PackageError`s, and `SolverError`s where something is run."""
        ...


class Delegated(Struct, frozen=True, kw_only=True):
    """What a builder planned and did by itself; without a layer there was nothing to do."""

    plan: Plan
    epoch: int = 0
    composed: ComposedLayer | None = None


class Delegate(Protocol):
    """A builder that plans and applies, for only it reaches the repositories."""

    def can_help(self, error: CopaError) -> bool:
        """Tell whether a builder may do better than what ended here with this error."""
        ...

    def make(self, compression: str, reason: CopaError) -> Delegated:
        """Raises `SolverError`s, which name the reason, and `VerificationError` for what no upgrade does."""
        ...


class Ways(Protocol):
    """The ways of one job."""

    @property
    def delegate(self) -> Delegate: ...

    def of(self, strategy: Strategy) -> Applier:
        """Return the way that a strategy names; AUTO is the embedded engine's."""
        ...

    def judge(self, inventory: PackageDatabase, updates: Sequence[PlannedUpdate], repository: Repository) -> Judged:
        """
        Fetch packages and add the verdicts about their scripts; what is likely to be done with them is begun meanwhile.

        Raises `PackageError` for a package that can't be read, and as `Repository.fetch` does.
        """
        ...
