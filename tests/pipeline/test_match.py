# SPDX-License-Identifier: Apache-2.0
"""What a report says, held against what is installed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from copacetic.inventory import PackageDatabase
from copacetic.pipeline.plan.match import match_findings, match_inventories, rate_findings, want_everything
from copacetic.rpm import RpmHeader, tags
from copacetic.rpm.header import text_entry
from copacetic.updates import Finding, FindingStatus, InstalledPackage, MatchedFinding
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk
from support.image.trees import Content, tree
from support.rpm.rpmdbs import make_files, make_header
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import finding, installed, key


def database_of(files: dict[str, Content]) -> PackageDatabase:
    found = detect_database(tree(files))
    assert found is not None
    return found


def debs(*packages: InstalledPackage) -> PackageDatabase:
    """As dpkg records them."""
    stanzas = (
        f"Package: {p.name}\nStatus: install ok installed\nArchitecture: {p.architecture}\nVersion: {p.version}\n"
        f"Source: {p.source_name} ({p.source_version})\n\n"
        for p in packages
    )
    return database_of({"var/lib/dpkg/status": "".join(stanzas)})


def apks(packages: Sequence[Apk], tools: str) -> PackageDatabase:
    """With a release of apk-tools among them."""
    return database_of({**apk_image(None, [*packages, Apk(name="apk-tools", version=tools)])})


PACKAGES = (
    installed("bsdutils", "1:2.41-5", source="util-linux", source_version="2.41-5"),
    installed("libssl3", "3.0.17-1~deb12u1", source="openssl"),
    installed("openssl", "3.0.17-1~deb12u1"),
    installed("tzdata", "2025a-0+deb12u1", architecture="all"),
)
DEBS = debs(*PACKAGES)


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
    (matched,), _ = match_findings([row], DEBS)

    assert matched.status is status
    assert tuple(map(str, matched.packages)) == concerned


def test_a_fixed_version_of_the_source_is_not_compared_with_the_binary_s_epoch() -> None:
    (matched,), wanted = match_findings([finding("bsdutils", "2.41.5-0+deb13u1")], DEBS)

    assert matched.status is FindingStatus.FIXABLE, "1:2.41-5 is newer only by the epoch of the binary package"
    assert [w.package.name for w in wanted] == ["bsdutils"]


def test_a_fixed_version_of_the_binary_is_compared_with_the_binary() -> None:
    row = finding("bsdutils", "1:2.41-4", fixed_is_source=False)

    (matched,), _ = match_findings([row], DEBS)

    assert matched.status is FindingStatus.ALREADY_FIXED


def test_a_source_package_s_name_stands_for_all_its_binaries() -> None:
    row = finding("openssl", "3.0.17-1~deb12u2", names_source=True)

    (matched,), wanted = match_findings([row], DEBS)

    assert set(matched.packages) == {key("libssl3:amd64"), key("openssl:amd64")}
    assert [w.package.name for w in wanted] == ["libssl3", "openssl"]


def test_a_name_that_no_binary_has_is_taken_for_a_source_s() -> None:
    (matched,), _ = match_findings([finding("util-linux", "2.41-6")], DEBS)

    assert matched.packages == (key("bsdutils:amd64"),)


def test_a_source_s_name_that_no_source_has_is_taken_for_a_binary_s() -> None:
    (matched,), _ = match_findings([finding("bsdutils", "1:2.41-6", names_source=True)], DEBS)

    assert matched.packages == (key("bsdutils:amd64"),)


def test_an_architecture_independent_package_matches_any_architecture() -> None:
    (matched,), _ = match_findings([finding("tzdata", "2026a-0+deb12u1", architecture="amd64")], DEBS)

    assert matched.status is FindingStatus.FIXABLE


def test_several_findings_of_one_package_are_wanted_together() -> None:
    rows = [
        finding("libssl3", "3.0.17-1~deb12u2", vulnerability_id="CVE-2026-0001"),
        finding("libssl3", "3.0.17-1~deb12u3", vulnerability_id="CVE-2026-0002"),
    ]

    _, (wanted,) = match_findings(rows, DEBS)

    assert wanted.needed == "3.0.17-1~deb12u2 and 3.0.17-1~deb12u3 or later is needed"
    assert [f.vulnerability_id for f in wanted.findings] == ["CVE-2026-0001", "CVE-2026-0002"]


def test_of_several_fixed_versions_that_of_the_installed_branch_closes_the_finding() -> None:
    row = finding("openssl", "1.1.1w-0+deb11u4", "3.0.17-1~deb12u2", "3.5.1-1", installed_version="3.0.16-1~deb12u1")

    (still_open,), _ = match_findings([row], DEBS)
    (closed,), _ = match_findings([row], debs(installed("openssl", "3.0.18-1~deb12u1")))
    (open_again,), _ = match_findings([row], debs(installed("openssl", "3.5.0-1")))

    assert still_open.status is FindingStatus.FIXABLE
    assert closed.status is FindingStatus.ALREADY_FIXED
    assert open_again.status is FindingStatus.FIXABLE


def test_where_a_report_cannot_say_what_is_fixed_the_newest_version_is_wanted_and_nothing_is_claimed() -> None:
    (matched,), (wanted,) = match_findings([finding("openssl", fixes=None)], DEBS)

    assert matched.status is FindingStatus.UNKNOWN
    assert (wanted.package.name, wanted.needed, wanted.is_open_ended) == ("openssl", "", True)


def test_without_a_report_everything_is_wanted() -> None:
    assert [w.package for w in want_everything(PACKAGES)] == list(PACKAGES)


APKS = (
    Apk(name="libcrypto3", version="3.1.4-r5", origin="openssl"),
    Apk(name="libssl3", version="3.1.4-r5", origin="openssl"),
    Apk(name="odd", version="1.09-r0"),
    Apk(name="data", version="1-r0", architecture="noarch"),
)


def test_an_apk_s_finding_is_about_its_own_version_and_its_origin_stands_for_all_of_it() -> None:
    own = finding("libssl3", "3.1.7-r0", package_type="apk", fixed_is_source=False)
    origin = finding("openssl", "3.1.7-r0", package_type="apk", names_source=True)

    database = apks(APKS, "2.14.4-r0")

    _, wanted = match_findings([own], database)
    (matched,), all_wanted = match_findings([origin], database)

    assert [want.package.name for want in wanted] == ["libssl3"]
    assert matched.packages == (key("libcrypto3:x86_64"), key("libssl3:x86_64"))
    assert len(all_wanted) == 2


@pytest.mark.parametrize(
    ("tools", "status"), [("3.0.0-r0", FindingStatus.ALREADY_FIXED), ("2.14.4-r0", FindingStatus.FIXABLE)]
)
def test_versions_have_the_order_of_the_image_s_own_apk(tools: str, status: FindingStatus) -> None:
    (matched,), _ = match_findings([finding("odd", "1.010-r0", package_type="apk")], apks(APKS, tools))

    assert matched.status is status


@pytest.mark.parametrize(
    ("database", "row", "concerned"),
    [
        (apks(APKS, "2.14.4-r0"), finding("data", "2-r0", package_type="apk", architecture="x86_64"), ("data:noarch",)),
        (apks(APKS, "2.14.4-r0"), finding("odd", "2-r0", package_type="apk", architecture="aarch64"), ()),
        (debs(installed("data", "1", architecture="noarch")), finding("data", "2", architecture="amd64"), ()),
    ],
)
def test_which_architectures_a_finding_s_own_stands_for_is_the_family_s_to_say(
    database: PackageDatabase, row: Finding, concerned: tuple[str, ...]
) -> None:
    (matched,), _ = match_findings([row], database)

    assert tuple(map(str, matched.packages)) == concerned


def test_findings_about_sources_and_about_binaries_are_each_held_against_their_own_version() -> None:
    rows = [
        finding("bsdutils", "2.41-5", vulnerability_id="CVE-2026-0001"),
        finding("bsdutils", "1:2.41-6", vulnerability_id="CVE-2026-0002", fixed_is_source=False),
    ]

    matched, (wanted,) = match_findings(rows, DEBS)

    assert [one.status for one in matched] == [FindingStatus.ALREADY_FIXED, FindingStatus.FIXABLE]
    assert wanted.findings == (rows[1],)


def test_each_finding_is_held_against_the_database_of_its_type_and_what_is_wanted_comes_by_database() -> None:
    rows = [
        finding("musl", "2-r0", package_type="apk"),
        finding("openssl", "3.0.17-1~deb12u2"),
        finding("odd", "2-r0", package_type="apk"),
        finding("jinja2", "3", package_type="pypi"),
    ]

    matched, wanted = match_inventories(rows, [DEBS, apks(APKS, "2.14.4-r0")])

    assert [(one.finding, one.status) for one in matched] == [
        (rows[0], FindingStatus.NOT_INSTALLED),
        (rows[1], FindingStatus.FIXABLE),
        (rows[2], FindingStatus.FIXABLE),
        (rows[3], FindingStatus.UNKNOWN),
    ]
    assert [[want.package.name for want in wants] for wants in wanted] == [["openssl"], ["odd"]]


def test_a_database_that_no_finding_is_about_has_nothing_to_change() -> None:
    _, wanted = match_inventories([finding("odd", "2-r0", package_type="apk")], [DEBS, apks(APKS, "2.14.4-r0")])

    assert [len(wants) for wants in wanted] == [0, 1]


def rpms(*headers: RpmHeader) -> PackageDatabase:
    return database_of({**make_files("sqlite", headers)})


@pytest.mark.parametrize(
    ("row", "status", "concerned"),
    [
        (finding("zlib.x86_64", "1.2.7-20.el7_9"), FindingStatus.FIXABLE, ("zlib:x86_64",)),
        (finding("zlib.x86_64", "1.2.7-18.el7"), FindingStatus.ALREADY_FIXED, ("zlib:x86_64",)),
        (finding("zlib.i686", "1.2.7-20.el7_9"), FindingStatus.NOT_INSTALLED, ()),
        (finding("compat.d", "2-1"), FindingStatus.FIXABLE, ("compat.d:noarch",)),
        (finding("openssl-libs", "1.0.2k-25.el7_9"), FindingStatus.FIXABLE, ("openssl-libs:x86_64",)),
        (finding("openssl-libs", "1:1.0.2k-19.el7"), FindingStatus.ALREADY_FIXED, ("openssl-libs:x86_64",)),
        (finding("openssl-libs", "2:1.0-1"), FindingStatus.FIXABLE, ("openssl-libs:x86_64",)),
        (finding("openssl", "1.0.2k-25.el7_9"), FindingStatus.FIXABLE, ("openssl-libs:x86_64",)),
        (finding("zlib", "1.2.7-20", architecture="i686"), FindingStatus.NOT_INSTALLED, ()),
        (finding("zlib", "1.2.7-20", architecture="amd64"), FindingStatus.FIXABLE, ("zlib:x86_64",)),
    ],
)
def test_rpm_packages_are_known_by_name_source_epoch_and_architecture(
    row: Finding, status: FindingStatus, concerned: tuple[str, ...]
) -> None:
    row = replace(row, package_type="rpm", fixes=tuple(replace(fix, is_source=False) for fix in row.fixes or ()))
    source = text_entry(tags.SOURCE_RPM, "openssl-1.0.2k-19.el7.src.rpm")
    database = rpms(
        make_header("zlib", "1.2.7-18.el7"),
        make_header("openssl-libs", "1:1.0.2k-19.el7", "x86_64", source),
        make_header("compat.d", "1-1", "noarch"),
    )

    ((matched,), _) = match_findings([row], database)

    assert (matched.status, tuple(map(str, matched.packages))) == (status, concerned)


@pytest.mark.parametrize(
    ("installed_version", "fixes", "status"),
    [
        ("2.34-28.el9_0", ("2.34-60.el9_2.7", "2.34-83.el9_3.7"), FindingStatus.FIXABLE),
        ("2.34-60.el9_2.7", ("2.34-60.el9_2.7", "2.34-83.el9_3.7"), FindingStatus.ALREADY_FIXED),
        ("2.34-60.el9_2.14", ("2.34-60.el9_2.7", "2.34-83.el9_3.7"), FindingStatus.ALREADY_FIXED),
        ("2.34-83.el9_3.6", ("2.34-60.el9_2.7", "2.34-83.el9_3.7"), FindingStatus.FIXABLE),
        ("2.34-83.el9_3.12", ("2.34-60.el9_2.7", "2.34-83.el9_3.7"), FindingStatus.ALREADY_FIXED),
    ],
)
def test_a_fix_of_another_minor_release_is_no_fix_of_this_one(
    installed_version: str, fixes: tuple[str, ...], status: FindingStatus
) -> None:
    row = finding("glibc", *fixes, package_type="rpm", fixed_is_source=False, installed_version="2.34-28.el9")

    ((matched,), _) = match_findings([row], rpms(make_header("glibc", installed_version)))

    assert matched.status == status


def test_a_finding_without_a_severity_gets_that_of_the_advisory_about_it() -> None:
    findings = (
        finding("a", "2", severity="UNKNOWN"),
        finding("a", "2", severity="LOW"),
        finding("a", "2", vulnerability_id="GHSA-1", aliases=("CVE-2026-0001",)),
        finding("a", "2", vulnerability_id="CVE-2026-0002"),
    )
    matched = tuple(MatchedFinding(finding=one, status=FindingStatus.FIXABLE) for one in findings)

    rated = rate_findings(matched, {"CVE-2026-0001": "HIGH"})

    assert rated is not None
    assert [one.finding.severity for one in rated] == ["HIGH", "LOW", "HIGH", "UNKNOWN"]
    assert rate_findings(None, {"CVE-2026-0001": "HIGH"}) is None
