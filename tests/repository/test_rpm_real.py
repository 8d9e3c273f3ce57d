# SPDX-License-Identifier: Apache-2.0
"""Real metadata, real keys and real packages: what is found is what dnf and zypper found."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.errors import ExpiredRepositoryError, IntegrityError, RepositoryError, SignatureError
from copacetic.http import HttpClient, HttpSettings
from copacetic.inventory.rpm import RpmDatabase
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.progress import Silent
from copacetic.repository import RepositoryContext, RepositorySettings
from copacetic.repository.rpm import RpmRepository
from copacetic.repository.rpm.metadata import OpenedRepository, RpmMetadataStore
from copacetic.repository.rpm.sources import RpmSource
from copacetic.repository.rpm.trust import MetadataPolicy
from copacetic.repository.rpm.verify import OfferedPackage, PackageVerifier, Signing
from copacetic.repository.seen import SeenDates
from copacetic.rpm.signature import RpmKeys
from copacetic.updates import Resolution, Wanted
from support.image.images import fixture
from support.image.trees import stack
from support.server.served import Served, serve
from support.value.values import HERE

NOW = datetime.now(UTC)
KEY = "rpm/RPM-GPG-KEY-fixtures"
ROOTS = {
    "el7": ("el7/centos7-httpd-rpmdb-bdb.tar.xz", "el7/updates", 32),
    "el9": ("rpm/el9/alma9-20220706-aarch64.tar.xz", "rpm/el9/repo-9.3", 18),
    "al2023": ("rpm/al2023-hollow/root.tar.xz", "rpm/al2023-hollow/repo", 10),
    "mariner2": ("rpm/mariner2-hollow/root.tar.xz", "rpm/mariner2-hollow/repo", 9),
    "sle15": ("rpm/sle15-hollow/root.tar.xz", "rpm/sle15-hollow/repo", 8),
}
"""Roots, their updates, and how many of them there are."""


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(Served()) as files:
        yield files


@cache
def filesystem(root: str) -> ImageFilesystem:
    """What of a root has to do with packages: most of it is nobody's business here."""
    buffer = io.BytesIO()
    with tarfile.open(fixture(root), "r|xz") as tar, tarfile.open(fileobj=buffer, mode="w") as kept:
        for member in tar:
            if re.match(r"(?:\./)?(?:etc/|(?:usr/lib/sysimage|var/lib)/rpm|usr/lib/os-release)", member.name):
                kept.addfile(member, tar.extractfile(member) if member.isreg() else None)
    return stack(buffer.getvalue())


def context(name: str, served: Served, cache: Path, **settings: object) -> RepositoryContext:
    root, updates, _ = ROOTS[name]
    served.add_folder(fixture(updates))
    fs = filesystem(root)
    database = RpmDatabase.detect(fs)
    assert database is not None
    known = {"host_root": None, "reach": HERE, "definitions": (served.address,), "keyrings": (fixture(KEY),)}
    return RepositoryContext(
        fs=fs, package_type="rpm", installed=database.packages(), architecture=database.native_architecture,
        distro=Distro.parse(fs.read("etc/os-release", limit=1 << 16)), http=HttpClient(HttpSettings(retries=0)),
        cache=Cache(cache), now=NOW, settings=RepositorySettings(**{**known, **settings}), progress=Silent(),  # type: ignore[arg-type]
    )  # fmt: skip


def resolved(here: RepositoryContext) -> tuple[RpmRepository, Resolution]:
    repository = RpmRepository.open(here)
    return repository, repository.resolve([Wanted(package=package) for package in here.installed], exhaustive=True)


@pytest.mark.parametrize("name", ROOTS)
def test_a_distribution_s_updates_are_found_and_each_is_verified(name: str, served: Served, tmp_path: Path) -> None:
    repository, found = resolved(context(name, served, tmp_path))

    assert len(found.updates) == ROOTS[name][2]
    assert len(repository.fetch([update.candidate for update in found.updates])) == len(found.updates)
    (remark,) = repository.remarks()
    start = f"signatures of {len(found.updates)} packages verified"
    # CentOS signs as it did in 2014.
    assert remark.startswith(f"{start} by RSA alone") if name == "el7" else remark == start


def test_they_are_those_that_dnf_found(served: Served, tmp_path: Path) -> None:
    _, found = resolved(context("el9", served, tmp_path))

    rows = re.findall(r"^ (\S+) +\S+ +(\S+) +fx +", fixture("rpm/el9/dnf-resolves.txt").read_text(), re.MULTILINE)
    assert {update.candidate.name: update.candidate.version for update in found.updates} == dict(rows)
    assert len(found.severities) == 24  # of advisories, and of what each closes


def test_old_signatures_alone_are_refused_where_the_user_wants_better_ones(served: Served, tmp_path: Path) -> None:
    repository, found = resolved(context("el7", served, tmp_path, require_modern=True))

    with pytest.raises(IntegrityError, match="right by RSA alone, which --require-modern-signatures forbids") as caught:
        repository.fetch([update.candidate for update in found.updates])
    assert len(caught.value.also) == 31


def test_without_the_key_of_some_packages_those_are_refused_and_no_others(served: Served, tmp_path: Path) -> None:
    repository, found = resolved(context("el9", served, tmp_path, keyrings=()))

    with pytest.raises(IntegrityError) as caught:
        repository.fetch([update.candidate for update in found.updates])
    (remark,) = repository.remarks()
    assert (len(caught.value.also) + 1, remark) == (7, "signatures of 11 packages verified")


@pytest.mark.parametrize(
    ("trap", "words"),
    [
        ("libgcc-payload-altered-signature-of-header-good.rpm", "its payload has another SHA256"),
        ("libsepol-truncated.rpm", "its payload has another SHA256"),
    ],
)
def test_a_package_whose_header_alone_is_signed_is_refused(
    trap: str, words: str, served: Served, tmp_path: Path
) -> None:
    here = context("el9", served, tmp_path)
    _, found = resolved(here)
    name = trap.partition("-")[0]
    candidate = next(update.candidate for update in found.updates if update.candidate.name == name)
    record = candidate.record
    assert isinstance(record, OfferedPackage)
    assert record.signing is Signing.REQUIRED

    with pytest.raises(IntegrityError, match=words):
        PackageVerifier(now=NOW, modern=False).check(candidate, fixture(f"rpm/traps/{trap}"))


# -- other people's metadata -----------------------------------------------------------------------------------------


def opened(
    folder: str, served: Served, cache: Path, keys: RpmKeys, *, allow_unsigned: bool = False
) -> tuple[RpmMetadataStore, OpenedRepository]:
    served.add_folder(fixture(f"rpm/repodata/{folder}"))
    store = RpmMetadataStore(
        Cache(cache), HttpClient(HttpSettings(retries=0)), Silent(), SeenDates(Cache(cache), now=NOW, allow=False)
    )
    source = RpmSource(id="x", urls=(served.address,), defined_in="here", checks_metadata=not allow_unsigned)
    return store, store.open(source, keys, MetadataPolicy(now=NOW, allow_unsigned=allow_unsigned))


def test_metadata_of_createrepo_c_s_own_tests_is_read(served: Served, tmp_path: Path) -> None:
    store, repository = opened("repo_with_additional_metadata", served, tmp_path, RpmKeys([]), allow_unsigned=True)

    assert len(store.modules(repository)) == 78
    assert [advisory.id for advisory in store.advisories(repository)] == ["foobarupdate_1"]
    assert store.files(repository) is not None
    (offer,) = store.primary(repository).named("fontconfig")
    assert (offer.nevra, offer.location) == ("fontconfig-2.8.0-5.el6.x86_64", "fontconfig-2.8.0-5.el6.x86_64.rpm")


@pytest.mark.parametrize(
    ("folder", "error", "words"),
    [
        ("unsigned_repo", SignatureError, "is not signed"),
        ("wrongsig_repo", SignatureError, "is signed by no key that is trusted for it"),
        ("unknownkey_repo", SignatureError, "is signed by no key that is trusted for it"),
    ],
)
def test_signatures_of_libzypp_s_tests_are_told_apart(
    folder: str, error: type[RepositoryError], words: str, served: Served, tmp_path: Path
) -> None:
    key = fixture("rpm/repodata/libzypp/RepoSigcheck/signed_repo/repodata/repomd.xml.key")
    keys = RpmKeys([(key.name, key.read_bytes())])

    with pytest.raises(error, match=words):
        opened(f"libzypp/RepoSigcheck/{folder}", served, tmp_path, keys)


def test_a_key_past_its_date_is_named(served: Served, tmp_path: Path) -> None:
    folder = fixture("rpm/repodata/libzypp/ZCHUNK/repodata")
    keys = RpmKeys([(path.name, path.read_bytes()) for path in folder.glob("*.key")])

    with pytest.raises(ExpiredRepositoryError, match="has expired on 2022-01-21"):
        opened("libzypp/ZCHUNK", served, tmp_path, keys)
