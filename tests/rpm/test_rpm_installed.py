# SPDX-License-Identifier: Apache-2.0
"""Headers of installed packages, byte for byte those that rpm makes of the same package files."""

from __future__ import annotations

from pathlib import Path

import pytest

from copacetic.rpm import HeaderError, RpmHeader, RpmIdentity, RpmPackage, tags
from copacetic.rpm.header import binary_entry, number_entry, text_entry, texts_entry
from copacetic.rpm.installed import installed_header
from support.image.images import fixture
from support.rpm.realrpm import run_rpm
from support.rpm.rpmdbs import got_files, open_files

ALONE = ["--justdb", "--nodeps", "--force", "--noscripts", "--notriggers", "--nosignature", "--nodigest"]
ANYWHERE = ["--ignorearch", "--ignoreos", "--define", "_pkgverify_level none"]


def read_package(path: Path) -> RpmPackage:
    with path.open("rb") as file:
        return RpmPackage.read(file)


def same_as(said: RpmHeader, package: RpmPackage, release: tuple[int, int]) -> RpmHeader:
    """What is made of a package, with the times and states that rpm chose."""
    return installed_header(
        package,
        states=said.numbers(tags.FILE_STATES),
        color=said.number(tags.INSTALL_COLOR),
        time=said.number(tags.INSTALL_TIME) or 0,
        transaction=said.number(tags.INSTALL_TID) or 0,
        release=release,
    )


@pytest.mark.parametrize(
    ("folder", "pattern", "some"),
    [
        ("rpm/rpms/fedora42-aarch64", "*.rpm", tags.FILE_SIGNATURES),
        ("rpm/rpms/rpm-testsuite", "hello-1.0-1.*.rpm", tags.INSTALL_PREFIXES),
        ("el7/updates", "*.rpm", tags.SIGNATURE_PGP),
    ],
)
def test_headers_are_those_that_rpm_makes(folder: str, pattern: str, some: int, tmp_path: Path) -> None:
    """With signatures of single files, packages that could have gone elsewhere, and signatures of another time."""
    paths = sorted(path for path in fixture(folder).rglob(pattern) if ".src." not in path.name)
    packages = {str(RpmIdentity.of(package.header)): package for package in map(read_package, paths)}

    result = run_rpm("-i", *ALONE, *ANYWHERE, *paths, dbpath=tmp_path)

    assert result.returncode == 0, result.stderr
    said = [record.header for record in open_files(got_files(tmp_path)).records]
    assert len(said) == len(packages) > 1
    for header in said:
        assert same_as(header, packages[str(RpmIdentity.of(header))], (4, 18)) == header
    assert any(some in header for header in said)


def package(*signature: object, main: tuple[object, ...] = ()) -> RpmPackage:
    header = RpmHeader.build([text_entry(tags.NAME, "a"), *main])  # type: ignore[list-item]
    return RpmPackage(RpmHeader.build(signature, region=tags.HEADER_SIGNATURES), header, 0, 0)  # type: ignore[arg-type]


def tags_of(one: RpmPackage, release: tuple[int, int]) -> set[int]:
    made = installed_header(one, states=(), color=None, time=1, transaction=1, release=release)
    return {entry.tag for entry in made.entries()} - {tags.NAME, tags.INSTALL_TIME, tags.INSTALL_TID}


def test_old_releases_take_what_is_short_and_new_ones_what_they_know() -> None:
    signature = [
        text_entry(tags.SHA256_HEADER, "ab"),
        text_entry(299, "short"),
        text_entry(298, "x" * 20_000),
        texts_entry(tags.OPENPGP, ["sig", "sig"]),
        texts_entry(tags.SIG_FILE_SIGNATURES, ["sig", "sig"]),
        binary_entry(tags.SIG_RESERVED, bytes(9)),
        number_entry(tags.SIG_SIZE, [7]),
    ]

    assert tags_of(package(*signature), (4, 14)) == {tags.SHA256_HEADER, 299, tags.SIGNATURE_SIZE}
    new = {tags.SHA256_HEADER, tags.SIGNATURE_SIZE, tags.FILE_SIGNATURES}
    assert tags_of(package(*signature), (4, 18)) == new
    assert tags_of(package(*signature), (6, 0)) == {*new, tags.OPENPGP}


def test_a_package_that_brings_its_own_signature_s_tags_is_refused() -> None:
    sure = text_entry(tags.SHA1_HEADER, "ab")
    loose = number_entry(tags.ARCHIVE_SIZE, [5])

    with pytest.raises(HeaderError, match=f"tag {tags.SHA1_HEADER}"):
        tags_of(package(sure, main=(sure,)), (4, 18))
    assert tags_of(package(number_entry(tags.SIG_PAYLOAD_SIZE, [4]), main=(loose,)), (4, 18)) == {tags.ARCHIVE_SIZE}


def test_a_package_without_files_has_no_states() -> None:
    assert tags_of(package(number_entry(tags.SIG_SIZE, [7])), (4, 18)) == {tags.SIGNATURE_SIZE}
