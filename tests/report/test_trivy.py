# SPDX-License-Identifier: Apache-2.0
"""Trivy's reports, real and odd."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import ReportError
from copacetic.pipeline.plan.policy import Policy, select
from copacetic.report import parse_report
from copacetic.updates import Report
from support.floors import accepting, refusal


def report(*rows: dict[str, Any], **more: Any) -> Report:
    found = [{"VulnerabilityID": "CVE-1", "InstalledVersion": "1", "FixedVersion": "", **row} for row in rows]
    document = {
        "SchemaVersion": 2,
        "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": found}],
        **more,
    }
    (parsed,) = parse_report(json.dumps(document).encode(), "r.json")
    return parsed


def test_several_results_comma_lists_and_epochs_are_read() -> None:
    parsed = report({"PkgName": "a", "FixedVersion": "1:2.0, 1:1.5"}, {"PkgName": "b", "FixedVersion": "not fixed"})

    assert [(f.package, f.fixed_versions) for f in parsed.findings] == [("a", ("1:2.0", "1:1.5")), ("b", ())]
    assert all(fix.is_source for f in parsed.findings for fix in f.fixes or ())


@pytest.mark.parametrize("family", ["alpine", "wolfi", "chainguard"])
def test_fixed_versions_of_apks_are_those_of_the_package_itself(family: str) -> None:
    row = {"VulnerabilityID": "CVE-1", "PkgName": "musl", "InstalledVersion": "1.2.4-r0", "FixedVersion": "1.2.4-r2"}
    row |= {"PkgIdentifier": {"PURL": f"pkg:apk/{family}/musl@1.2.4-r0?arch=x86_64&distro=3.18"}}  # type: ignore[dict-item]
    parsed = report(Results=[{"Class": "os-pkgs", "Type": family, "Vulnerabilities": [row]}])

    (found,) = parsed.findings
    assert (found.package_type, found.architecture, found.fixed_versions) == ("apk", "x86_64", ("1.2.4-r2",))
    assert not any(fix.is_source for fix in found.fixes or ())


def test_libraries_are_read_and_left_out_by_policy_with_the_reason() -> None:
    rows = [{"VulnerabilityID": f"CVE-{n}", "PkgName": "Jinja2", "FixedVersion": "3.1.3"} for n in (1, 2)]
    libraries = {"Class": "lang-pkgs", "Type": "pip", "Vulnerabilities": rows}
    os_packages = {"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": None}

    parsed = report(Results=[libraries, os_packages])

    assert [f.package_type for f in parsed.findings] == ["pypi", "pypi"]
    kept, ignored = select(parsed.findings, Policy())
    assert kept == ()
    assert [one.reason for one in ignored] == ["other package types"] * 2


def test_the_architecture_comes_from_the_package_url() -> None:
    row = {"PkgName": "a", "PkgIdentifier": {"PURL": "pkg:deb/debian/a@1?arch=amd64&distro=debian-12"}}

    assert report(row).findings[0].architecture == "amd64"


def test_what_the_report_is_about_is_known() -> None:
    digest = "sha256:" + "1" * 64
    metadata = {
        "ImageID": digest, "RepoDigests": [f"registry.example/a@sha256:{'2' * 64}", "odd"],
        "ImageConfig": {"architecture": "arm64"}, "OS": {"Family": "debian", "Name": "12.1"},
    }  # fmt: skip

    parsed = report(Metadata=metadata)

    assert {str(d) for d in parsed.image_digests} == {digest, "sha256:" + "2" * 64}
    assert (parsed.architecture, parsed.os_family, parsed.os_version) == ("arm64", "debian", "12.1")


def test_the_old_bare_list_is_read() -> None:
    rows = [
        {
            "Target": "x",
            "Type": "debian",
            "Vulnerabilities": [{"VulnerabilityID": "CVE-1", "PkgName": "a", "FixedVersion": "2"}],
        }
    ]

    (parsed,) = parse_report(json.dumps(rows).encode(), "r.json")

    assert [f.package for f in parsed.findings] == ["a"]


def test_a_gzip_bomb_is_not_unpacked() -> None:
    with pytest.raises(ReportError, match="unpacks to more than"):
        parse_report(gzip.compress(bytes(200_000_000), 9), "r.json")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Results", "Vulnerabilities", "PkgName", "Metadata", "Class", "Type", "OS", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@accepting(0.05)
@given(_json)
def test_any_document_is_a_report_or_refused(value: object) -> None:
    for document in (
        value,
        {"SchemaVersion": 2, "Results": value},
        {"SchemaVersion": 2, "Results": [value], "Metadata": value},
    ):
        with refusal(ReportError):
            try:
                parse_report(json.dumps(document).encode(), "r.json")
            except ReportError as error:
                assert "r.json" in str(error)
                raise
