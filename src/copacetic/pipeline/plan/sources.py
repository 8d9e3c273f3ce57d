# SPDX-License-Identifier: Apache-2.0
"""From an inventory of an opened image to its repositories."""

from __future__ import annotations

from copacetic.inventory import PackageDatabase
from copacetic.pipeline.job import Job
from copacetic.repository import Repository, RepositoryContext, open_repository

__all__ = ["open_repositories"]


def open_repositories(job: Job, inventory: PackageDatabase) -> Repository:
    """Raises `RepositoryError` for an image that has none for it, and a user who names none."""
    opened, session = job.opened, job.session
    context = RepositoryContext(
        fs=opened.fs,
        package_type=inventory.package_type,
        installed=inventory.packages(),
        assumed=inventory.assumed(),
        architecture=inventory.native_architecture,
        distro=opened.distro,
        http=session.http,
        cache=session.cache,
        now=session.now,
        settings=session.repository_settings(opened.image.access.location),
        progress=session.progress,
        budget=session.budget,
        tolerant=job.request.ignore_errors,
    )
    return open_repository(context)
