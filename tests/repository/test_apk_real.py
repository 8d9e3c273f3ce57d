# SPDX-License-Identifier: Apache-2.0
"""Real Alpine roots and real repositories: what is planned is what the real apk does, without its traps."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.errors import PackageUnavailableError, UnreachableError
from copacetic.http import HttpClient, HttpSettings
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pipeline.open.image import read_distro
from copacetic.pipeline.plan.match import match_findings, want_everything
from copacetic.progress import Silent
from copacetic.report import load_reports
from copacetic.repository import RepositoryContext, RepositorySettings, open_repository
from copacetic.updates import FindingStatus, Resolution
from support.apk.apkoracle import ROOTS, alpine_root, run_in
from support.image.images import fixture
from support.image.trees import stack
from support.server.served import Served, serve
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import wanted_fix

REPOSITORIES = {"3.10.2": "repo-3.10.9", "3.18.2": "repo-3.18.9", "3.20.3": "repo-3.20.6", "3.22.0": "repo-3.22.1"}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    files = Served()
    for folder in (*REPOSITORIES.values(), "repo-3.19.4", "repo-3.19-signed"):
        files.add_folder(fixture(f"alpine/{folder}"), f"{folder}/")
    with serve(files):
        yield files


def filesystem(release: str) -> ImageFilesystem:
    """The layers of a real root, as an image has them."""
    archive = fixture(ROOTS[release])
    if "docker-archive" not in archive.name:
        return stack(gzip.decompress(archive.read_bytes()))
    with tarfile.open(archive) as tar:
        layers = [member for member in tar.getmembers() if member.name.endswith("layer.tar")]
        return stack(*(tar.extractfile(layer).read() for layer in layers))  # type: ignore[union-attr]


def context(release: str, address: str, cache: Path, folder: str = "") -> RepositoryContext:
    fs = filesystem(release)
    database, distro = detect_database(fs), read_distro(fs)
    assert database is not None
    assert distro is not None
    keys = tuple(fixture(f"alpine/{folder}").glob("*.pub")) if folder else ()
    settings = RepositorySettings(definitions=(f"{address}/{folder}",), keyrings=keys, host_root=None)
    return RepositoryContext(
        fs=fs, package_type="apk", installed=database.packages(), assumed=database.assumed(),
        architecture=database.native_architecture, distro=distro, http=HttpClient(HttpSettings(retries=0)),
        cache=Cache(cache), now=datetime.now(UTC), settings=settings, progress=Silent(),
    )  # fmt: skip


def everything(opened: RepositoryContext) -> Resolution:
    return open_repository(opened).resolve(want_everything(opened.installed), exhaustive=True)


def planned(resolution: Resolution) -> list[str]:
    return [f"{update.candidate.name}-{update.candidate.version}" for update in resolution.updates]


@pytest.mark.system
@pytest.mark.parametrize("release", REPOSITORIES)
def test_everything_is_upgraded_in_the_order_of_the_real_apk(release: str, served: Served, tmp_path: Path) -> None:
    folder = REPOSITORIES[release]
    root = alpine_root(release, tmp_path / "root")
    command = "apk --keys-dir /mnt --repositories-file /dev/null -X /mnt --no-cache upgrade"
    run = run_in(root, command, binds={"mnt": fixture(f"alpine/{folder}")})
    opened = context(release, served.address, tmp_path / "cache", folder)

    resolution = everything(opened)

    assert run.code == 0, run.output
    assert [update.candidate.name for update in resolution.updates] == [name for _, name in run.commits]
    assert resolution.skipped == ()
    assert resolution.notes == ()
    files = open_repository(opened).fetch([update.candidate for update in resolution.updates])
    assert len(files) == len(resolution.updates)


def test_a_library_that_apk_silently_leaves_vulnerable_is_named_with_who_holds_it(
    served: Served, tmp_path: Path
) -> None:
    resolution = everything(context("3.19.1", served.address, tmp_path, "repo-3.19.4"))

    assert planned(resolution) == [
        "apk-tools-2.14.4-r0", "busybox-1.36.1-r19", "busybox-binsh-1.36.1-r19",
        "ca-certificates-bundle-20240226-r0", "ssl_client-1.36.1-r19",
    ]  # fmt: skip
    assert [(skipped.package.name, skipped.detail) for skipped in resolution.skipped] == [
        (
            name,
            f"3.1.7-r0 is offered, but openssl 3.1.4-r5 needs {name}=3.1.4-r5, and no newer openssl is offered",
        )
        for name in ("libcrypto3", "libssl3")
    ]


def test_alpine_s_own_signed_index_is_read_and_a_fix_taken_from_it(served: Served, tmp_path: Path) -> None:
    opened = context("3.19.1", served.address, tmp_path)
    opened = replace(
        opened, settings=replace(opened.settings, definitions=(f"{served.address}/repo-3.19-signed",), keyrings=())
    )
    wanted = [wanted_fix(p, "2.11.8-r0") for p in opened.installed if p.name == "libxml2"]

    repository = open_repository(opened)
    resolution = repository.resolve(wanted, exhaustive=False)

    assert planned(resolution) == ["libxml2-2.11.8-r0"]
    assert resolution.origins[0].signed_by == "alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub"
    assert resolution.origins[0].label == "v3.19.1-643-gec825d20535"
    (path,) = repository.fetch([resolution.updates[0].candidate]).values()
    assert path.read_bytes() == served.files["repo-3.19-signed/x86_64/libxml2-2.11.8-r0.apk"]


def test_packages_that_an_index_names_and_the_repository_lacks_stop_everything(served: Served, tmp_path: Path) -> None:
    opened = context("3.19.1", served.address, tmp_path)
    opened = replace(opened, settings=replace(opened.settings, definitions=(f"{served.address}/repo-3.19-signed",)))
    resolution = everything(opened)

    assert "openssl-3.1.5-r0" in planned(resolution)
    with pytest.raises(PackageUnavailableError, match="answers 404"):
        open_repository(opened).fetch([update.candidate for update in resolution.updates])


def test_a_repository_that_can_t_be_reached_is_an_error(served: Served, tmp_path: Path) -> None:
    opened = context("3.10.2", served.address, tmp_path, "repo-3.10.9")
    definitions = (*opened.settings.definitions, "http://127.0.0.1:9/alpine/v3.10/community")
    opened = replace(opened, settings=replace(opened.settings, definitions=definitions))

    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        everything(opened)


def test_an_image_newer_than_its_repository_is_left_as_it_is(served: Served, tmp_path: Path) -> None:
    assert planned(everything(context("3.22.0", served.address, tmp_path, "repo-3.18.9"))) == []


def test_the_findings_of_a_real_report_are_closed_exactly(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = context("3.10.2", served.address, tmp_path, "repo-3.10.9")
    database = detect_database(opened.fs)
    assert database is not None
    path = fixture("reports/trivy/aquasecurity__trivy__testdata__alpine-310.json.golden")
    (report,) = load_reports([path])
    matched, wanted = match_findings(report.findings, database)

    resolution = open_repository(opened).resolve(wanted, exhaustive=False)

    assert {one.status for one in matched} == {FindingStatus.FIXABLE}
    assert planned(resolution) == ["libcrypto1.1-1.1.1k-r0", "libssl1.1-1.1.1k-r0"]
    assert resolution.skipped == ()
    changed = {update.candidate.name: update.candidate for update in resolution.updates}
    result = [
        replace(p, version=changed[p.name].version, source_version=changed[p.name].version) if p.name in changed else p
        for p in opened.installed
    ]
    monkeypatch.setattr(database, "packages", lambda: tuple(result))
    again, left = match_findings(report.findings, database)
    assert {one.status for one in again} == {FindingStatus.ALREADY_FIXED}
    assert left == ()
