# SPDX-License-Identifier: Apache-2.0
"""Reports as they come: files, folders, standard input, encodings, and how a format is recognised."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import ReportError, UnsupportedReportError, UsageError
from copacetic.report import load_reports, parse_report
from copacetic.report.document import sketch

ROW = {"VulnerabilityID": "CVE-1", "PkgName": "zlib1g", "InstalledVersion": "1", "FixedVersion": "2"}
TRIVY = {"SchemaVersion": 2, "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [ROW]}]}
DATA = json.dumps(TRIVY).encode()


def test_gzip_a_byte_order_mark_wide_characters_and_directories_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(DATA))
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + DATA)
    (tmp_path / "c.json").write_bytes(DATA.decode().encode("utf-16"))
    (tmp_path / ".hidden").write_bytes(b"x")

    assert [len(report.findings) for report in load_reports([tmp_path])] == [1, 1, 1]


def test_standard_input_is_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DATA)))

    (report,) = load_reports([Path("-")])

    assert (report.path, len(report.findings)) == ("standard input", 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"<xml/>", "is not JSON"),
        (b'{"SchemaVersion": 2, "Results": [', "is not JSON"),
        (b'{"SchemaVersion": 2, "x": "\xff"}', "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b"\x1f\x8b\x08", "is truncated"),
        (
            b'{"SchemaVersion": 2, "Results": [{"Vulnerabilities": [1]}]}',
            r"at `\$\.Results\[0\]\.Vulnerabilities\[0\]`",
        ),
        (b'{"SchemaVersion": 2, "Results": {}}', r"Expected `array \| null`, got `object` - at `\$\.Results`"),
    ],
)
def test_what_is_wrong_is_said_with_the_report_s_name_and_the_place(data: bytes, message: str) -> None:
    with pytest.raises(ReportError, match=message) as caught:
        parse_report(data, "r.json")

    assert "the report r.json" in str(caught.value)


def test_a_document_that_no_scanner_writes_is_refused_with_what_is_known() -> None:
    with pytest.raises(UnsupportedReportError, match=r"is an object with a, b; supported: trivy"):
        parse_report(b'{"b": 1, "a": 2}', "r.json")


def test_a_folder_with_something_else_in_it_is_refused_by_the_file_s_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(DATA)
    (tmp_path / "b.md").write_bytes(b"# Notes\n")

    with pytest.raises(ReportError, match=r"b\.md"):
        load_reports([tmp_path])


def test_a_format_that_is_named_is_not_asked_whether_it_knows_the_report() -> None:
    document = json.dumps({"Metadata": {"OS": {"Family": "debian"}}}).encode()

    with pytest.raises(UnsupportedReportError):
        parse_report(document, "r.json")
    (report,) = parse_report(document, "r.json", report_format="trivy")

    assert report.os_family == "debian"


def test_a_name_that_no_format_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no report format is called 'tryvi'") as caught:
        load_reports([], report_format="tryvi")

    assert "trivy" in caught.value.hint


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_report_is_recognised_by_its_beginning_whatever_the_order_of_its_keys(order: int) -> None:
    rows = [{**ROW, "VulnerabilityID": f"CVE-{n}", "Description": 'a "text", with\\ [signs] {'} for n in range(2_000)]
    result = {"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": rows}
    document = {"ArtifactName": "a", "Metadata": {}, "Results": [result], "SchemaVersion": 2}

    (report,) = parse_report(json.dumps(dict(list(document.items())[::order])).encode(), "r.json")

    assert len(report.findings) == 2_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(min_size=1, max_size=3), _JSON, min_size=1, max_size=5), st.integers(1, 300))
def test_a_sketch_of_a_beginning_has_the_first_values_of_the_document(document: dict[str, object], length: int) -> None:
    data = json.dumps(document, ensure_ascii=False).encode()

    seen = sketch(data[:length])

    complete = list(document.items())[: len(seen) - 1] if seen else []
    assert seen is None or list(seen.items())[: len(complete)] == complete
    assert length < len(data) or seen == document
