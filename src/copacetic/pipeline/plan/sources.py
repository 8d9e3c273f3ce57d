# SPDX-License-Identifier: Apache-2.0
"""From an opened image to its repositories."""

from __future__ import annotations

from copacetic.pipeline.environment import Environment
from copacetic.pipeline.open.image import OpenedImage
from copacetic.repository import RepositoryContext

__all__ = ["repository_context"]


def repository_context(opened: OpenedImage, environment: Environment, *, tolerant: bool = False) -> RepositoryContext:
    """Say what a repository of this platform may look at."""
    return RepositoryContext(
        fs=opened.fs,
        package_type=opened.database.package_type,
        installed=opened.database.packages(),
        assumed=opened.database.assumed(),
        architecture=opened.database.native_architecture,
        distro=opened.distro,
        http=environment.http,
        cache=environment.cache,
        now=environment.now,
        settings=environment.repository,
        progress=environment.progress,
        tolerant=tolerant,
    )
