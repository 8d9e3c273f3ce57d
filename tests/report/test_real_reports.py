# SPDX-License-Identifier: Apache-2.0
"""Every report of the collection, counted by somebody else: `docs/reference/reports.md` explains each difference."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from copacetic.errors import UnsupportedReportError
from copacetic.pipeline.plan.policy import Policy, select
from copacetic.report import load_reports
from support.images import FIXTURES, fixture

DIFFERENT: dict[str, tuple[int, int, int]] = {
    "CapStone-B13-shopNow__trivy-report.json": (1, 0, 0),
    "trivy__legacy_trivy_mix.json": (6, 5, 1),
}
"""Findings, fixable ones of distributions, and rows that are refused, where the collection counts something else."""
REFUSED: frozenset[str] = frozenset()


def _index() -> list[Any]:
    path = FIXTURES / "reports" / "INDEX.csv"
    if not path.exists():
        return [pytest.param("", 0, 0, marks=pytest.mark.skip(reason="no collection of reports"))]
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["scanner"] in {"trivy", "trivy-v1"}]
    return [
        pytest.param(r["file"], int(r["vulns"]), int(r["fixable_os"] or 0), id=r["file"].partition("/")[2])
        for r in rows
    ]


@pytest.mark.parametrize(("name", "vulnerabilities", "fixable"), _index())
def test_a_real_report_has_the_findings_that_its_index_counts(name: str, vulnerabilities: int, fixable: int) -> None:
    path = fixture(f"reports/{name}")
    short = "__".join(name.split("__")[-2:])
    if short in REFUSED:
        with pytest.raises(UnsupportedReportError):
            load_reports([path])
        return

    reports = load_reports([path])

    findings = [finding for report in reports for finding in report.findings]
    kept, _ = select(findings, Policy())
    refused = sum(sum(report.unreadable.values()) for report in reports)
    counted = (len(findings), sum(bool(f.fixes) for f in kept), refused)
    assert counted == DIFFERENT.get(short, (vulnerabilities, fixable, 0))
