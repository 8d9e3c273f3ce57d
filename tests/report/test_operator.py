# SPDX-License-Identifier: Apache-2.0
"""What is odd in reports of the Trivy Operator."""

from __future__ import annotations

import json
from typing import Any

from copacetic.report import parse_report
from support.value.reports import SAMPLES, load, only


def test_a_list_of_reports_of_the_operator_is_a_report_for_each() -> None:
    sample = json.loads((SAMPLES / "trivy-operator.json").read_bytes())

    reports = parse_report(json.dumps({"kind": "List", "items": [sample, sample]}).encode(), "r.json")

    assert [len(report.findings) for report in reports] == [2, 2]


def test_an_old_report_of_the_operator_tells_libraries_by_their_names() -> None:
    def age(document: Any) -> None:
        first, second = document["report"]["vulnerabilities"]
        for row in (first, second):
            del row["class"], row["packageType"]
        second["resource"] = "github.com/aws/aws-sdk-go"

    assert [f.package_type for f in only(load("trivy-operator.json", age)).findings] == ["deb", "generic"]
