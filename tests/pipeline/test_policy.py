# SPDX-License-Identifier: Apache-2.0
"""Which findings count."""

from __future__ import annotations

from copacetic.pipeline.plan.policy import Policy, apply_policy, select
from copacetic.progress import Silent
from copacetic.updates import Report
from support.value.values import finding

SYSTEM = (finding("openssl"), finding("musl", package_type="apk"), finding("bash", package_type="os"))
LIBRARY = finding("jinja2", package_type="pypi")


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_packages_of_a_distribution_count_and_libraries_do_where_they_are_asked_for() -> None:
    findings = (LIBRARY, *SYSTEM)

    kept, ignored = select(findings, Policy())
    everything, nothing = select(findings, Policy(package_types=frozenset({"os", "library"})))

    assert kept == SYSTEM
    assert [(one.finding, one.reason) for one in ignored] == [(LIBRARY, "other package types")]
    assert (everything, nothing) == (findings, ())


def test_what_is_left_out_of_a_file_is_noted_once_with_all_reasons() -> None:
    refused = {"invalid versions": 2}
    one = Report(scanner="x", path="a.json", findings=(SYSTEM[0], LIBRARY), unreadable=refused)
    other = Report(scanner="x", path="a.json", findings=(LIBRARY,))
    silent = Report(scanner="x", path="b.json", findings=SYSTEM)
    progress = Notes()

    reports = apply_policy([one, other, silent], Policy(), progress)

    assert [report.findings for report in reports] == [SYSTEM[:1], (), SYSTEM]
    assert progress.notes == ["a.json: rows left out: 2 with invalid versions, 2 with other package types"]
