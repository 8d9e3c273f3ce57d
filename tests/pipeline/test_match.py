# SPDX-License-Identifier: Apache-2.0
"""What a report says, held against what is installed."""

from __future__ import annotations

import pytest

from copacetic.pipeline.plan.match import match_findings, want_everything
from copacetic.updates import Finding, FindingStatus
from support.values import finding, installed

PACKAGES = (
    installed("bsdutils", "1:2.41-5", source="util-linux", source_version="2.41-5"),
    installed("libssl3", "3.0.17-1~deb12u1", source="openssl"),
    installed("openssl", "3.0.17-1~deb12u1"),
    installed("tzdata", "2025a-0+deb12u1", architecture="all"),
)


@pytest.mark.parametrize(
    ("row", "status", "concerned"),
    [
        (finding("openssl", "3.0.17-1~deb12u2"), FindingStatus.FIXABLE, ("openssl:amd64",)),
        (finding("openssl", "3.0.17-1~deb12u1"), FindingStatus.ALREADY_FIXED, ("openssl:amd64",)),
        (finding("openssl"), FindingStatus.NO_FIX, ("openssl:amd64",)),
        (finding("nginx", "1.2"), FindingStatus.NOT_INSTALLED, ()),
        (finding("openssl", "not a version"), FindingStatus.UNKNOWN, ("openssl:amd64",)),
        (finding("musl", "1.2.5-r1", package_type="apk"), FindingStatus.UNKNOWN, ()),
    ],
)
def test_a_finding_gets_the_status_that_the_database_gives_it(
    row: Finding, status: FindingStatus, concerned: tuple[str, ...]
) -> None:
    (matched,), _ = match_findings([row], PACKAGES, "deb")

    assert matched.status is status
    assert matched.packages == concerned


def test_a_fixed_version_of_the_source_is_not_compared_with_the_binary_s_epoch() -> None:
    (matched,), wanted = match_findings([finding("bsdutils", "2.41.5-0+deb13u1")], PACKAGES, "deb")

    assert matched.status is FindingStatus.FIXABLE, "1:2.41-5 is newer only by the epoch of the binary package"
    assert [w.package.name for w in wanted] == ["bsdutils"]


def test_a_fixed_version_of_the_binary_is_compared_with_the_binary() -> None:
    row = finding("bsdutils", "1:2.41-4", fixed_is_source_version=False)

    (matched,), _ = match_findings([row], PACKAGES, "deb")

    assert matched.status is FindingStatus.ALREADY_FIXED


def test_a_source_package_s_name_stands_for_all_its_binaries() -> None:
    row = finding("openssl", "3.0.17-1~deb12u2", names_source=True)

    (matched,), wanted = match_findings([row], PACKAGES, "deb")

    assert set(matched.packages) == {"libssl3:amd64", "openssl:amd64"}
    assert [w.package.name for w in wanted] == ["libssl3", "openssl"]


def test_a_name_that_no_binary_has_is_taken_for_a_source_s() -> None:
    (matched,), _ = match_findings([finding("util-linux", "2.41-6")], PACKAGES, "deb")

    assert matched.packages == ("bsdutils:amd64",)


def test_an_architecture_independent_package_matches_any_architecture() -> None:
    (matched,), _ = match_findings([finding("tzdata", "2026a-0+deb12u1", architecture="amd64")], PACKAGES, "deb")

    assert matched.status is FindingStatus.FIXABLE


def test_several_findings_of_one_package_are_wanted_together() -> None:
    rows = [
        finding("libssl3", "3.0.17-1~deb12u2", vulnerability_id="CVE-2026-0001"),
        finding("libssl3", "3.0.17-1~deb12u3", vulnerability_id="CVE-2026-0002"),
    ]

    _, (wanted,) = match_findings(rows, PACKAGES, "deb")

    assert wanted.fixed_versions == ("3.0.17-1~deb12u2", "3.0.17-1~deb12u3")
    assert [f.vulnerability_id for f in wanted.findings] == ["CVE-2026-0001", "CVE-2026-0002"]


def test_without_a_report_everything_is_wanted() -> None:
    assert [w.package for w in want_everything(PACKAGES)] == list(PACKAGES)


APKS = (
    installed("libcrypto3", "3.1.4-r5", architecture="x86_64", source="openssl"),
    installed("libssl3", "3.1.4-r5", architecture="x86_64", source="openssl"),
    installed("odd", "1.09-r0", architecture="x86_64"),
)


def test_an_apk_s_finding_is_about_its_own_version_and_its_origin_stands_for_all_of_it() -> None:
    own = finding("libssl3", "3.1.7-r0", package_type="apk", fixed_is_source_version=False)
    origin = finding("openssl", "3.1.7-r0", package_type="apk", names_source=True)

    _, wanted = match_findings([own], APKS, "apk")
    (matched,), all_wanted = match_findings([origin], APKS, "apk")

    assert [want.package.name for want in wanted] == ["libssl3"]
    assert matched.packages == ("libcrypto3:x86_64", "libssl3:x86_64")
    assert len(all_wanted) == 2


@pytest.mark.parametrize(("scheme", "status"), [("apk", FindingStatus.ALREADY_FIXED), ("apk2", FindingStatus.FIXABLE)])
def test_versions_have_the_order_of_the_image_s_own_apk(scheme: str, status: FindingStatus) -> None:
    (matched,), _ = match_findings([finding("odd", "1.010-r0", package_type="apk")], APKS, "apk", scheme=scheme)

    assert matched.status is status
