# SPDX-License-Identifier: Apache-2.0
"""apk images given by their files, and what their repositories make of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.http import HttpClient, HttpSettings
from copacetic.progress import Silent
from copacetic.repository import Repository, RepositoryContext, RepositorySettings, open_repository
from copacetic.updates import Candidate, Wanted
from support.apk.apkrepo import OS_RELEASE
from support.image.trees import Content, tree
from support.value.databases import detect_database
from support.value.values import HERE


def context(files: Mapping[str, Content], cache: Path, **settings: object) -> RepositoryContext:
    """`settings` are those of repositories; nothing of this machine is used."""
    fs = tree(files)
    database = detect_database(fs)
    assert database is not None
    return RepositoryContext(
        fs=fs, package_type="apk", installed=database.packages(), architecture="x86_64",
        distro=Distro.parse(OS_RELEASE.encode()), http=HttpClient(HttpSettings(retries=0)), cache=Cache(cache),
        now=datetime.now(UTC), settings=RepositorySettings(**{"host_root": None, "reach": HERE, **settings}), progress=Silent(),  # type: ignore[arg-type]
    )  # fmt: skip


def opened(files: Mapping[str, Content], cache: Path, **settings: object) -> Repository:
    return open_repository(context(files, cache, **settings))


def found(files: Mapping[str, Content], cache: Path, **settings: object) -> list[Candidate]:
    """Return what an image would be updated to."""
    here = context(files, cache, **settings)
    wanted = [Wanted(package=package) for package in here.installed]
    return [update.candidate for update in open_repository(here).resolve(wanted, exhaustive=True).updates]
