# SPDX-License-Identifier: Apache-2.0
"""Samples of scanners' reports, and findings in one line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from copacetic.report import parse_report
from copacetic.updates import Finding, Report

SAMPLES = Path(__file__).parents[2] / "report/samples"


def show(finding: Finding) -> str:
    fixes = "?" if finding.fixes is None else " ".join(finding.fixed_versions) or "-"
    kind = f"{finding.package_type} source" if finding.names_source else finding.package_type
    row = f"{finding.vulnerability_id} {finding.package} {finding.installed_version} > {fixes}"
    return f"{row} ({finding.severity.lower()}, {kind})"


def load(name: str, change: Callable[[Any], None] | None = None) -> tuple[Report, ...]:
    document = json.loads((SAMPLES / name).read_bytes())
    if change is not None:
        change(document)
    return parse_report(json.dumps(document).encode(), name)


def rows(reports: Iterable[Report]) -> tuple[str, ...]:
    return tuple(show(finding) for report in reports for finding in report.findings)


def only(reports: tuple[Report, ...]) -> Report:
    (report,) = reports
    return report
