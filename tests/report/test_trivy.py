# SPDX-License-Identifier: Apache-2.0
"""Trivy's reports, real and odd."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import ReportError
from copacetic.report import load_reports, parse_report
from copacetic.updates import Report
from support.images import FIXTURES, fixture

OS = frozenset({"os"})


def report(*rows: dict[str, Any], **more: Any) -> Report:
    found = [{"VulnerabilityID": "CVE-1", "InstalledVersion": "1", "FixedVersion": "", **row} for row in rows]
    document = {
        "SchemaVersion": 2,
        "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": found}],
        **more,
    }
    return parse_report(json.dumps(document).encode(), "r.json", package_types=OS)


def _index() -> list[Any]:
    path = FIXTURES / "reports" / "INDEX.csv"
    if not path.exists():
        return [pytest.param("", 0, marks=pytest.mark.skip(reason="no fixtures"))]
    with path.open() as file:
        rows = [r for r in csv.DictReader(file) if r["scanner"] in {"trivy", "trivy-v1"}]
    return [pytest.param(r["file"], int(r["fixable_os"] or 0), id=r["file"].rsplit("__", 1)[-1]) for r in rows]


@pytest.mark.parametrize(("name", "fixable"), _index())
def test_a_real_report_has_as_many_fixable_rows_as_its_index_says(name: str, fixable: int) -> None:
    path = fixture(f"reports/{name}")

    try:
        (parsed,) = load_reports([path], package_types=OS)
    except ReportError:
        assert fixable == 0
        return

    assert sum(bool(f.fixed_versions) for f in parsed.findings) <= fixable
    assert bool(parsed.findings) or fixable == 0 or parsed.ignored


def test_several_results_comma_lists_and_epochs_are_read() -> None:
    parsed = report({"PkgName": "a", "FixedVersion": "1:2.0, 1:1.5"}, {"PkgName": "b", "FixedVersion": "not fixed"})

    assert [(f.package, f.fixed_versions) for f in parsed.findings] == [("a", ("1:2.0", "1:1.5")), ("b", ())]
    assert all(f.fixed_is_source_version for f in parsed.findings)


@pytest.mark.parametrize("family", ["alpine", "wolfi", "chainguard"])
def test_fixed_versions_of_apks_are_those_of_the_package_itself(family: str) -> None:
    row = {"VulnerabilityID": "CVE-1", "PkgName": "musl", "InstalledVersion": "1.2.4-r0", "FixedVersion": "1.2.4-r2"}
    row |= {"PkgIdentifier": {"PURL": f"pkg:apk/{family}/musl@1.2.4-r0?arch=x86_64&distro=3.18"}}  # type: ignore[dict-item]
    parsed = report(Results=[{"Class": "os-pkgs", "Type": family, "Vulnerabilities": [row]}])

    (found,) = parsed.findings
    assert (found.package_type, found.architecture, found.fixed_versions) == ("apk", "x86_64", ("1.2.4-r2",))
    assert not found.fixed_is_source_version


def test_other_package_types_are_counted_not_read() -> None:
    libraries = {"Class": "lang-pkgs", "Type": "pip", "Vulnerabilities": [{}, {}]}
    os_packages = {"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": None}

    parsed = report(Results=[libraries, os_packages])

    assert parsed.findings == ()
    assert parsed.ignored == {"other package types": 2}


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

    parsed = parse_report(json.dumps(rows).encode(), "r.json", package_types=OS)

    assert [f.package for f in parsed.findings] == ["a"]


def test_gzip_a_byte_order_mark_and_directories_are_understood(tmp_path: Path) -> None:
    data = json.dumps({"SchemaVersion": 2, "Results": []}).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(data))
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + data)

    assert [r.scanner for r in load_reports([tmp_path], package_types=OS)] == ["trivy", "trivy"]


def test_a_gzip_bomb_is_not_unpacked() -> None:
    with pytest.raises(ReportError, match="unpacks to more than"):
        parse_report(gzip.compress(bytes(200_000_000), 9), "r.json", package_types=OS)


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


@given(_json)
def test_any_document_is_a_report_or_refused(value: object) -> None:
    for document in (
        value,
        {"SchemaVersion": 2, "Results": value},
        {"SchemaVersion": 2, "Results": [value], "Metadata": value},
    ):
        try:
            parse_report(json.dumps(document).encode(), "r.json", package_types=OS)
        except ReportError as error:
            assert "r.json" in str(error)
