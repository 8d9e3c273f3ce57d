# SPDX-License-Identifier: Apache-2.0
"""
Every report of a collection, counted by somebody else: `docs/reference/reports.md` explains each difference.

It runs where the collection is, as all tests with fixtures do; each format has a sample in `samples`.
"""

from __future__ import annotations

import csv
from typing import Any

import pytest

from copacetic.errors import ReportError
from copacetic.pipeline.plan.policy import Policy, select
from copacetic.report import load_reports
from support.image.images import FIXTURES, fixture

DIFFERENT: dict[str, tuple[int, int, int]] = {
    # Rows that say the same are one finding, a vulnerability of several packages is several.
    "CapStone-B13-shopNow__trivy-report.json": (1, 0, 0),
    "cyclonedx__issue_9277.json": (14, 0, 0),
    "snyk__snykcontainer_issue_9270.json": (30, 0, 0),
    "test__vulnerabilityreport.json": (89, 10, 0),
    # Fixable are packages of distributions alone, and wherever the report has a fix.
    "testdata__alpine-310.asff.golden": (4, 4, 0),
    "sample_input_report__trivy-image_golang-1.12-alpine_sample.json": (44, 44, 0),
    "awssecurityhub__inspector_ecr.json": (11, 1, 0),
    "testdata__fluentd-multiple-lockfiles-short.cdx.json.golden": (3, 1, 0),
    "testdata__npm.gitlab.golden": (1, 0, 0),
    "testdata__pom-cyclonedx.json.golden": (2, 0, 0),
    "lab-6-code-scanning__scout-report.sarif": (28, 7, 0),
    "snapshot__TestSarifPresenter_image.golden": (2, 1, 0),
    # Rows that can't be used: no name, no identifier, a version with a NUL.
    "anchore_grype__fix_available.json": (0, 0, 1),
    "anchore_grype__fix_not_available.json": (0, 0, 1),
    "osv_scanner__many_findings.json": (65, 0, 1),
    "trivy__legacy_trivy_mix.json": (6, 5, 1),
    # VEX: about products, or about what does no harm.
    "Case-1__vex-fixed.json": (0, 0, 1),
    "Case-1__vex-not_affected.json": (0, 0, 1),
    "Case-1__vex.json": (0, 0, 1),
    "Case-2__vex.json.539ec5": (0, 0, 1),
    "Case-3__vex.json": (0, 0, 19),
    "Case-3__vex.json.e1a0a3": (0, 0, 1),
    "Case-5__vex.json.339ebc": (0, 0, 2),
    "Case-8__vex.json.10b5c9": (0, 0, 1),
    "Case-9__vex.json": (0, 0, 19),
    "Case-10__vex.json": (0, 0, 1),
    "Case-13__vex.json": (0, 0, 2),
    "VEX__vex.json": (0, 0, 1),
    "cyclonedx__valid-vulnerability-1.4.json": (0, 0, 1),
}
"""Findings, fixable ones of distributions, and rows that are refused, where the collection counts something else."""
REFUSED = {
    "asff__many_vulns.json": "is about no image: 5 findings",
    "asff__one_vuln.json": "is about no image: 1 findings",
    "awssecurityhub__inspector_ec2_cve.json": "is about no image: 5 findings",
    "awssecurityhub__inspector_ec2_cve_no_vulnerabilities.json": "is about no image: 1 findings",
    "awssecurityhub__inspector_ec2_ghsa.json": "is about no image: 1 findings",
    "TestCommand_OCIImage_JSONFormat_scanning_insecure_chiseled_ubuntu_image_-_1.json": r"got `int` - at .*\.groups`",
}


def _index() -> list[Any]:
    path = FIXTURES / "reports" / "INDEX.csv"
    if not path.exists():
        return [pytest.param("", 0, 0, marks=pytest.mark.skip(reason="no collection of reports"))]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    counts = [(int(row["vulns"]), int(row["fixable_os"]) if row["fixable_os"].isdecimal() else 0) for row in rows]
    return [
        pytest.param(row["file"], *count, id=row["file"].partition("/")[2])
        for row, count in zip(rows, counts, strict=True)
    ]


@pytest.mark.parametrize(("name", "vulnerabilities", "fixable"), _index())
def test_a_real_report_has_the_findings_that_its_index_counts(name: str, vulnerabilities: int, fixable: int) -> None:
    path = fixture(f"reports/{name}")
    short = "__".join(path.name.split("__")[-2:])
    refusal = "; supported: trivy" if path.parent.name == "openvex" else REFUSED.get(short)
    if refusal is not None:
        with pytest.raises(ReportError, match=refusal):
            load_reports([path])
        return

    reports = load_reports([path])

    findings = [finding for report in reports for finding in report.findings]
    kept, _ = select(findings, Policy())
    refused = sum(sum(report.unreadable.values()) for report in reports)
    counted = (len(findings), sum(bool(f.fixes) for f in kept), refused)
    assert counted == DIFFERENT.get(short, (vulnerabilities, fixable, 0))
