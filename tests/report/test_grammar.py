# SPDX-License-Identifier: Apache-2.0
"""What scanners call things, what it means, and what isn't believed."""

from __future__ import annotations

from typing import Any

import pytest

from copacetic.errors import ReportError
from copacetic.report import grammar
from copacetic.report.grammar import FindingBuilder, find_type, os_type, specify
from copacetic.report.purl import read_purl
from copacetic.updates import Finding, Report
from support.value.values import finding


def build(*, complete: bool = True, **row: Any) -> Report:
    builder = FindingBuilder("x", "r.json", complete=complete)
    builder.add(**{"vulnerability": "CVE-1", "package": "foo", "package_type": "deb", **row})
    return builder.report()


def built(**row: Any) -> Finding:
    (found,) = build(**row).findings
    return found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Debian GNU/Linux 9 (stretch)", "deb"),
        ("UBUNTU_22_04", "deb"),
        ("Alpine:v3.10", "apk"),
        ("ALPINE_LINUX_3_18", "apk"),
        ("Red Hat Enterprise Linux release 8.6 (Ootpa)", "rpm"),
        ("Rocky Linux 9.5 (Blue Onyx)", "rpm"),
        ("opensuse.leap", "rpm"),
        ("cbl-mariner", "rpm"),
        ("suse linux enterprise server", "rpm"),
        ("AMAZON_LINUX_2", "rpm"),
        ("debugger", ""),
        ("Unknown", ""),
        (None, ""),
        (3, ""),
    ],
)
def test_a_distribution_is_known_by_its_first_word(text: object, kind: str) -> None:
    assert os_type(text) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("PYTHONPKG", "pypi"),
        ("node-pkg", "npm"),
        ("gav", "maven"),
        ("deb", "deb"),
        ("new-one", "new-one"),
        ("a b", "generic"),
    ],
)
def test_a_kind_of_package_has_one_name(text: str, kind: str) -> None:
    assert find_type(text) == kind


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"package": "foo; reboot"}, "invalid package names"),
        ({"package": "@scope/name"}, "invalid package names"),
        ({"package": "f" * 300}, "invalid package names"),
        ({"package": None}, "invalid package names"),
        ({"vulnerability": "CVE 1"}, "invalid vulnerability ids"),
        ({"vulnerability": 7}, "invalid vulnerability ids"),
        ({"installed": "1 0"}, "invalid versions"),
        ({"installed": ["1"]}, "invalid versions"),
        ({"fixed": "1, 2\n3"}, "invalid versions"),
        ({"fixed": {"version": "1"}}, "invalid versions"),
        ({"fixed": ",".join(map(str, range(200)))}, "invalid versions"),
    ],
)
def test_a_row_that_breaks_the_grammar_is_counted_and_left_out(row: dict[str, Any], reason: str) -> None:
    report = build(**row)

    assert (report.findings, report.unreadable) == ((), {reason: 1})


def test_a_library_has_the_names_and_versions_of_its_ecosystem() -> None:
    row = built(package="@scope/name", package_type="npm", installed="1.0.0+build/2", fixed=">= 2.0, < 3.0")

    assert (row.package, row.installed_version, row.fixed_versions) == ("@scope/name", "1.0.0+build/2", ("2.0",))


@pytest.mark.parametrize(
    ("fixed", "versions"),
    [
        ("1.0, 2.0,1.0", ("1.0", "2.0")),
        (["[1.9.4]"], ("1.9.4",)),
        ("0:2.63+22.04", ("2.63+22.04",)),
        ("1:0:1", ("1:0:1",)),
        ("not fixed", ()),
        ("NotAvailable", ()),
        (["None"], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_what_surrounds_a_fixed_version_says_nothing(fixed: object, versions: tuple[str, ...]) -> None:
    assert built(fixed=fixed).fixed_versions == versions


def test_no_fix_is_none_or_unknown_as_the_format_has_it() -> None:
    (unknown,) = build(complete=False).findings
    (known,) = build(complete=False, fixed="2").findings

    assert built().fixes == ()
    assert unknown.fixes is None
    assert known.fixed_versions == ("2",)


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("Important", "HIGH"), ("moderate", "MEDIUM"), ("negligible", "LOW"), ("Defcon1", "CRITICAL"), ("9.8", "CRITICAL"),
        ("7.0", "HIGH"), ("6.9", "MEDIUM"), ("0.0", "UNKNOWN"), ("untriaged", "UNKNOWN"), (["HIGH"], "UNKNOWN"), (None, "UNKNOWN"),
    ],
)  # fmt: skip
def test_severities_have_five_names(word: object, severity: str) -> None:
    assert built(severity=word).severity == severity


def test_what_merely_adds_to_a_row_is_dropped_alone() -> None:
    row = built(
        aliases=["GHSA-1", "CVE-1", "x y", 3],
        locations=["/usr/lib/a", "usr/\x1b[2J", 3],
        purl="pkg:deb/debian/foo@1?arch=amd\u202e64",
        architecture="a b",
    )

    assert (row.aliases, row.locations, row.purl, row.architecture) == (("GHSA-1",), ("usr/lib/a",), "", None)


def test_a_report_has_no_more_findings_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "MAX_FINDINGS", 2)
    builder = FindingBuilder("x", "r.json")
    for _ in range(2):
        builder.add(vulnerability="CVE-1", package="foo", package_type="deb")

    with pytest.raises(ReportError, match=r"the report r\.json has more than 2 findings"):
        builder.add(vulnerability="CVE-1", package="foo", package_type="deb")


def test_only_what_is_of_no_known_type_takes_the_image_s() -> None:
    known = finding("foo", "2", package_type="apk", fixed_is_source=False)
    unknown = finding("foo", "2", package_type="os", fixed_is_source=False)

    assert specify(known, "deb") is known
    assert [fix.is_source for fix in specify(unknown, "deb").fixes or ()] == [True]
    assert [fix.is_source for fix in specify(unknown, "apk").fixes or ()] == [False]
    assert specify(finding("foo", package_type="os", fixes=None), "deb").fixes is None


@pytest.mark.parametrize(
    ("text", "package", "version", "architecture"),
    [
        ("pkg:deb/debian/libpcre3@8.39-13?arch=amd64&epoch=2", "libpcre3", "2:8.39-13", "amd64"),
        ("pkg:deb/debian/tar@1.30%2Bdfsg-6", "tar", "1.30+dfsg-6", ""),
        ("pkg:npm/%40angular/core@12.0.0", "@angular/core", "12.0.0", ""),
        ("pkg:maven/org.a/b@1?type=jar#x", "org.a:b", "1", ""),
        ("pkg:golang/github.com/x/y", "github.com/x/y", "", ""),
        ("pkg:oci/ubuntu@sha256%3Aab?arch=arm64", "ubuntu", "sha256:ab", "arm64"),
    ],
)
def test_a_package_url_is_taken_apart(text: str, package: str, version: str, architecture: str) -> None:
    purl = read_purl(text)

    assert purl is not None
    assert (purl.package, purl.full_version, purl.architecture) == (package, version, architecture)


@pytest.mark.parametrize(
    "text", ["", "pkg:", "pkg:deb", "pkg:deb/", "deb/debian/a@1", "pkg:deb/" + "a" * 3_000, None, 3]
)
def test_what_is_no_package_url_says_nothing(text: object) -> None:
    assert read_purl(text) is None
