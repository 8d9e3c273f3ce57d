# SPDX-License-Identifier: Apache-2.0
"""
A distribution's repositories: found in the image, verified with the keys it trusts, searched, fetched.

A kind of repository is one package or module with a class that follows `Repository`, which the row of its family
names (`families`).

Of an image only configuration, keys and what is installed are looked at; nothing in it is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from copacetic.budget import Budget
from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.errors import CopaError
from copacetic.families import family_of
from copacetic.http import HttpClient
from copacetic.http.reach import Reach
from copacetic.loader import load
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.progress import Progress
from copacetic.updates import Candidate, InstalledPackage, PackageKey, Resolution, Wanted

__all__ = ["Repository", "RepositoryContext", "RepositorySettings", "open_repository", "unless_tolerated"]


class RepositorySettings(Struct, frozen=True, kw_only=True):
    """What the user says about repositories; all of it optional."""

    definitions: tuple[str, ...] = ()
    """Repositories to use instead of the image's, each as the image's own configuration would spell it."""
    keyrings: tuple[Path, ...] = ()
    """Keys to trust besides the image's."""
    mirrors: tuple[tuple[str, str], ...] = ()
    """Prefixes of addresses and what to put in their place."""
    host_root: Path | None = Path("/")
    """Where this machine's own definitions and keys are, for images that carry none; None forbids that."""
    allow_expired: bool = False
    allow_unsigned: bool = False
    allow_rollback: bool = False
    """Accept a state of a repository that is older than one that was seen before."""
    reach: Reach = field(default_factory=Reach)
    """Where repositories may be that the image names."""
    allow_vendor_change: tuple[str, ...] = ()
    """Names of packages (`*` and `?` as in a shell) that may be replaced by another vendor's."""
    require_modern: bool = False
    """Whether only signatures count that a library with a policy of today accepts (rpm)."""
    secrets: tuple[tuple[str, Path], ...] = ()
    """Files with what repositories for subscribers want, by the beginnings of their addresses."""
    experimental: frozenset[str] = frozenset()
    """What isn't promised yet and shall be used: a name is read by the one family that it belongs to."""


class RepositoryContext(Struct, frozen=True, kw_only=True):
    """Everything a repository may look at."""

    fs: ImageFilesystem
    package_type: str
    installed: tuple[InstalledPackage, ...]
    assumed: tuple[InstalledPackage, ...] = ()
    """Packages that count for dependencies and can't be changed (`PackageDatabase.assumed`)."""
    architecture: str
    """The image's native one, in its package manager's spelling."""
    distro: Distro
    http: HttpClient
    cache: Cache
    now: datetime
    settings: RepositorySettings
    progress: Progress
    budget: Budget = field(default_factory=Budget)
    tolerant: bool = False
    """A repository that can't be used is left out, and named, whatever it is."""


class Repository(Protocol):
    """The repositories of one image, taken together."""

    @classmethod
    def open(cls, context: RepositoryContext) -> Repository:
        """Read the definitions; nothing is fetched yet. Raises `RepositoryError` when there are none."""
        ...

    def resolve(
        self, wanted: Sequence[Wanted], *, exhaustive: bool, frozen: Mapping[PackageKey, str] | None = None
    ) -> Resolution:
        """
        Find what to install so that every wanted package gets its fix and no dependency breaks that held before.

        `exhaustive` says that the newest version is wanted, so every repository has to be consulted. Otherwise it
        fetches as few indexes as it can, and takes the closest version that fixes what is asked for.

        `frozen` names packages that may neither change nor come in, each with the reason; what
        depends on such a change is skipped with `SkipReason.DEPENDENCY`, the frozen ones themselves are left out.
        """
        ...

    def vouch(self, candidates: Sequence[Candidate]) -> Mapping[Candidate, Candidate]:
        """
        Return what verified indexes say of these very packages (name, version, architecture, size and digest), for
        those that one of them has: first an index that is kept and that the candidate's origin names by its digest,
        whatever its age, then those of today.
        """
        ...

    def state(self) -> str:
        """Return a digest of what the repositories say they hold now; it changes whenever they publish anything."""
        ...

    def fetch(
        self, candidates: Sequence[Candidate], arrived: Callable[[Candidate, Path], None] | None = None
    ) -> Mapping[Candidate, Path]:
        """
        Return a local file for each candidate, its size and digest checked; downloads run side by side. `arrived` is
        called in this thread, for each of them as soon as it is there.
        """
        ...

    def remarks(self) -> tuple[str, ...]:
        """Return what is to be said of the packages that were fetched: how they were verified."""
        ...


def unless_tolerated(error: CopaError) -> CopaError:
    """Return what is wrong with a repository as the end of a run that may do without it, if the user says so."""
    return error.reworded(str(error), hint=f"{error.hint or 'repair it'}; --ignore-errors goes on without it")


def open_repository(context: RepositoryContext) -> Repository:
    """Open the repositories that go with the image's package database."""
    repository: Repository = load(family_of(context.package_type).repository).open(context)
    return repository
