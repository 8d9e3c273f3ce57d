# SPDX-License-Identifier: Apache-2.0
"""Images with a repository in their sources, and what is made of both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.http import HttpClient, HttpSettings
from copacetic.progress import Silent
from copacetic.repository import RepositoryContext, RepositorySettings, open_repository
from copacetic.updates import InstalledPackage, PackageKey, Resolution, Wanted
from support.deb.aptrepo import OS_RELEASE, Deb, Repository, installed_files
from support.image.trees import tree
from support.value.databases import detect_database
from support.value.values import HERE, wanted_fix


def deb(name: str, version: str, **fields: str) -> Deb:
    return Deb(
        name=name, version=version, architecture="amd64", fields={k.replace("_", "-"): v for k, v in fields.items()}
    )


class Image:
    """Packages installed in an image, and what its repositories make of them."""

    def __init__(
        self,
        tmp_path: Path,
        repository: Repository,
        *debs: Deb,
        more: Mapping[str, bytes | str] | None = None,
        **settings: object,
    ) -> None:
        files: dict[str, bytes | str] = {
            "etc/apt/sources.list": repository.definition,
            "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
            **installed_files(debs),
            **(more or {}),
        }
        fs = tree(files)
        database = detect_database(fs)
        assert database is not None
        self.installed = database.packages()
        self.context = RepositoryContext(
            fs=fs, package_type="deb", installed=self.installed, architecture="amd64",
            distro=Distro.parse(OS_RELEASE.encode()), http=HttpClient(HttpSettings(retries=0)), cache=Cache(tmp_path / "cache"),
            now=datetime.now(UTC), settings=RepositorySettings(**{"host_root": None, "reach": HERE, **settings}), progress=Silent(),  # type: ignore[arg-type]
        )  # fmt: skip

    def resolve(self, *fixes: tuple[str, str], frozen: Mapping[PackageKey, str] | None = None) -> Resolution:
        """Ask for every update, or for fixes of (package, version)."""
        by_name: dict[str, InstalledPackage] = {p.name: p for p in self.installed}
        wanted = [wanted_fix(by_name[name], version) for name, version in fixes]
        wanted = wanted or [Wanted(package=package) for package in self.installed]
        return open_repository(self.context).resolve(wanted, exhaustive=not fixes, frozen=frozen)


def changes(resolution: Resolution) -> dict[str, str]:
    return {update.candidate.name: update.candidate.version for update in resolution.updates}
