# SPDX-License-Identifier: Apache-2.0
"""What is odd in CycloneDX with vulnerabilities."""

from __future__ import annotations

from typing import Any

import pytest

from support.value.reports import load, only, rows


def test_what_cyclonedx_doesn_t_say_is_unknown_unless_the_tool_says_every_fix() -> None:
    def forget(document: Any) -> None:
        document["metadata"]["tools"] = [{"vendor": "somebody", "name": "else"}]

    assert [f.fixes for f in only(load("cyclonedx-trivy.json")).findings if f.package == "bash"] == [()]
    assert [f.fixes for f in only(load("cyclonedx-trivy.json", forget)).findings if f.package == "bash"] == [None]


@pytest.mark.parametrize("state", ["not_affected", "false_positive", "resolved"])
def test_what_is_analysed_and_harmless_is_no_finding(state: str) -> None:
    def analyse(document: Any) -> None:
        document["vulnerabilities"][0]["analysis"] = {"state": state}

    report = only(load("cyclonedx-trivy.json", analyse))

    assert "CVE-2019-18224" not in {finding.vulnerability_id for finding in report.findings}
    assert report.unreadable == {"an analysis that calls them harmless": 1}


def test_an_epoch_may_be_a_qualifier_and_components_may_lie_in_others() -> None:
    def nest(document: Any) -> None:
        purl = "pkg:deb/debian/libpcre3@8.39-13?arch=amd64&epoch=2"
        inner = {"bom-ref": "x", "type": "library", "name": "libpcre3", "purl": purl}
        document["components"][0]["components"] = [inner]
        document["vulnerabilities"] = [{"id": "CVE-1", "affects": [{"ref": "x"}]}]

    assert rows(load("cyclonedx-trivy.json", nest)) == ("CVE-1 libpcre3 2:8.39-13 > - (unknown, deb)",)
