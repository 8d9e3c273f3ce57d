# SPDX-License-Identifier: Apache-2.0
"""What is odd in Clair's reports."""

from __future__ import annotations

import json
from typing import Any

from copacetic.report import parse_report
from support.value.reports import SAMPLES, load, only, rows


def test_an_advisory_without_a_name_of_its_own_is_called_by_the_vulnerability_that_it_links_to() -> None:
    def rename(document: Any) -> None:
        for vulnerability in document["vulnerabilities"].values():
            vulnerability["name"] = "some/file.c allows stack exhaustion (low)"
            vulnerability["links"] = "https://example.org/CVE-2021-46195"

    assert {f.vulnerability_id for f in only(load("clair.json", rename)).findings} == {"CVE-2021-46195"}


def test_clair_s_report_may_be_wrapped_and_have_numbers_for_keys() -> None:
    sample = json.loads((SAMPLES / "clair.json").read_bytes())
    sample["package_vulnerabilities"] = {k: [int(i) for i in v] for k, v in sample["package_vulnerabilities"].items()}

    assert rows(parse_report(json.dumps({"report": sample}).encode(), "r.json")) == rows(load("clair.json"))
