# SPDX-License-Identifier: Apache-2.0
"""
Skips that are failures: where all is there that tests need, one that is skipped is an oracle that nobody asks any more.

`COPA_TEST_REQUIRE=all` says that it is all there, as on the machine that judges a change.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping

import pytest

ALLOWED: Mapping[str, str] = {
    "tests/report/test_real_reports.py::test_a_real_report_has_the_findings_that_its_index_counts": (
        "of a collection that is too large to be part of the project; trimmed samples of each format are"
    ),
    "tests/test_style.py::test_tests_of_a_group_run_in_one_process": "says something about several processes only",
}
"""Tests that may be skipped all the same, and why."""


def pytest_configure(config: pytest.Config) -> None:
    required = os.environ.get("COPA_TEST_REQUIRE", "")
    if required not in {"", "all"}:
        raise pytest.UsageError(f"COPA_TEST_REQUIRE is {required!r}; it may be 'all'")
    if required:
        config.pluginmanager.register(_SkipsFail())


class _SkipsFail:
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not hasattr(report, "wasxfail"):
            _refuse(report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        _refuse(report)
        return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    name = report.nodeid.partition("[")[0].partition("@")[0]
    if report.skipped and name not in ALLOWED:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"COPA_TEST_REQUIRE=all lets nothing be skipped, but: {reason}"
