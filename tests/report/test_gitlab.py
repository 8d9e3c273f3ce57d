# SPDX-License-Identifier: Apache-2.0
"""What is odd in GitLab's reports."""

from __future__ import annotations

from typing import Any

import pytest

from support.value.reports import load, rows


@pytest.mark.parametrize(
    ("solution", "fix"),
    [
        ("Upgrade apt from 1.4.8 to 1.4.9", "1.4.9"),
        ("Upgrade openssl to version 1.1.1d-r2, 1.1.1e-r0", "1.1.1d-r2 1.1.1e-r0"),
        ("No solution provided", "-"),
        (None, "-"),
    ],
)
def test_gitlab_s_solution_is_a_sentence(solution: str | None, fix: str) -> None:
    def solve(document: Any) -> None:
        document["vulnerabilities"] = document["vulnerabilities"][:1]
        document["vulnerabilities"][0]["solution"] = solution

    assert rows(load("gitlab.json", solve)) == (f"CVE-2019-1549 libcrypto1.1 1.1.1c-r0 > {fix} (medium, apk)",)
