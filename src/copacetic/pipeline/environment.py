# SPDX-License-Identifier: Apache-2.0
"""The means of a run, made by whoever starts it: the use cases reach the world through nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from copacetic.cache import Cache
from copacetic.http import HttpClient
from copacetic.oci.transport import Source
from copacetic.progress import Progress
from copacetic.repository import RepositorySettings

if TYPE_CHECKING:
    from copacetic.llb.solver import Solver
    from copacetic.oci.credentials import Credentials

__all__ = ["Environment", "Execution", "ImageAccess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAccess:
    """An image, and how a builder may get it."""

    source: Source
    pull_name: str = ""
    """The registry and repository from which a builder may fetch it itself; empty: it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What it takes to run an image's programs somewhere."""

    open_solver: Callable[[], Solver]
    """Connects, or gets ready, when it is called first; later calls give the same object. Raises `SolverError`."""
    open_tooling: Callable[[str], ImageAccess]
    """The image that brings a package manager where one has none: the user's, or else the one that is given."""
    credentials: Callable[[str], Credentials | None] = lambda _registry: None
    """By registry host, for what a builder fetches itself."""
    pull_name: str = ""
    """The registry and repository from which a builder may fetch the image itself; empty: it is sent."""
    delegate: bool = False
    """A builder was named, so it may reach repositories that this machine doesn't, and plan the upgrade itself."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """By scheme (http, https, no), for a run with the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The means of a run."""

    cache: Cache
    http: HttpClient
    repository: RepositorySettings
    progress: Progress
    now: datetime
    jobs: int = 4
    execution: Execution | None = None
    """None where nothing may be run."""
