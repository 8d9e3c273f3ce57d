# SPDX-License-Identifier: Apache-2.0
"""What repositories say of themselves, as one digest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.errors import CopaError
from copacetic.http import HttpClient, HttpSettings
from copacetic.progress import Silent
from copacetic.repository import RepositoryContext, RepositorySettings, open_repository
from support.deb.aptrepo import OS_RELEASE, Deb, Repository, serve_repository
from support.image.trees import tree
from support.value.values import HERE


def state(folder: Path, repository: Repository) -> str:
    context = RepositoryContext(
        fs=tree(
            {
                "etc/apt/sources.list": f"{repository.definition}\n",
                "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
            }
        ),
        package_type="deb",
        installed=(),
        architecture="amd64",
        distro=Distro.parse(OS_RELEASE.encode()),
        http=HttpClient(HttpSettings()),
        cache=Cache(folder),
        now=datetime.now(UTC),
        settings=RepositorySettings(reach=HERE),
        progress=Silent(),
    )
    return open_repository(context).state()


def test_the_state_is_another_one_whenever_something_was_published(tmp_path: Path) -> None:
    with serve_repository([Deb(name="foo")]) as repository:
        first = state(tmp_path, repository)
        again = state(tmp_path, repository)
        repository.publish([Deb(name="foo", version="2.0")])
        moved = state(tmp_path, repository)

    assert first == again
    assert moved != first


def test_a_state_that_nobody_vouches_for_is_none(tmp_path: Path) -> None:
    with serve_repository([Deb(name="foo")]) as repository:
        repository.files["dists/stable-security/InRelease"] += b"x"
        repository.files["dists/stable-security/InRelease"] = repository.files[
            "dists/stable-security/InRelease"
        ].replace(b"Origin: Tests", b"Origin: Other")
        with pytest.raises(CopaError):
            state(tmp_path, repository)
