# SPDX-License-Identifier: Apache-2.0
"""Which of several fixed versions counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import InvalidVersionError
from copacetic.version import compare_versions
from copacetic.version.branch import fix_ahead

PYTHON = ["3.9.22", "3.10.17", "3.11.12", "3.12.9", "3.13.2"]
RELEASES = ["1.1.1n-0+deb11u5", "3.0.9-1+deb12u2"]


@pytest.mark.parametrize(
    ("version", "fixes", "ahead"),
    [
        ("2.5.0", ["2.5.3", "2.6.1"], "2.5.3"),
        ("2.5.9", ["2.5.3", "2.6.1"], None),
        ("2.6.0", ["2.5.3", "2.6.1"], "2.6.1"),
        ("2.4.0", ["2.6.1", "2.5.3"], "2.5.3"),
        ("2.7.0", ["2.5.3", "2.6.1"], None),
        ("3.12.4", PYTHON, "3.12.9"),
        ("3.11.12", PYTHON, None),
        ("3.8.1", PYTHON, "3.9.22"),
        ("1.1.1n-0+deb11u4", RELEASES, "1.1.1n-0+deb11u5"),
        ("1.1.1n-0+deb11u6", RELEASES, None),
        ("3.0.9-1", RELEASES, "3.0.9-1+deb12u2"),
        ("1.2-2+deb12u1", ["1.2-2+deb11u5", "1.2-2+deb12u3"], "1.2-2+deb12u3"),
        ("1:1.2-3", ["1.5-1", "1:1.2-4"], "1:1.2-4"),
        ("1.2-3", ["1.2-4", "1:1.2-4"], "1.2-4"),
        ("1.0", [], None),
    ],
)
def test_the_fix_of_the_installed_branch_counts(version: str, fixes: list[str], ahead: str | None) -> None:
    assert fix_ahead("deb", version, fixes) == ahead


def test_what_is_reported_vulnerable_is_on_no_branch_that_was_fixed_before() -> None:
    assert fix_ahead("deb", "1.5.0", ["1.0.5", "2.0.1"]) is None
    assert fix_ahead("deb", "1.5.0", ["1.0.5", "2.0.1"], reported="1.5.0") == "2.0.1"
    assert fix_ahead("deb", "1.6.0", ["1.0.5", "2.0.1"], reported="1.5.0") == "2.0.1"
    assert fix_ahead("deb", "1.5.0", ["1.0.5", "2.0.1"], reported="no version") is None


def test_a_report_s_version_says_nothing_against_a_single_fix() -> None:
    assert fix_ahead("deb", "1.5.0", ["1.0.5"], reported="1.5.0") is None


@pytest.mark.parametrize("fixes", [["1.0", "no version"], ["no version"]])
def test_a_fix_that_is_no_version_can_t_be_compared(fixes: list[str]) -> None:
    with pytest.raises(InvalidVersionError):
        fix_ahead("deb", "1.0", fixes)


_versions = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))


@given(_versions, _versions)
def test_a_single_fix_is_reached_or_ahead_as_the_order_says(version: str, fix: str) -> None:
    expected = fix if compare_versions("deb", version, fix) < 0 else None

    assert fix_ahead("deb", version, [fix]) == expected


@given(_versions, st.lists(_versions, max_size=4))
def test_what_is_ahead_is_the_lowest_above_and_is_reached_by_itself(version: str, fixes: list[str]) -> None:
    ahead = fix_ahead("deb", version, fixes)

    above = [fix for fix in fixes if compare_versions("deb", version, fix) < 0]
    assert ahead is None or all(compare_versions("deb", ahead, fix) <= 0 for fix in above)
    assert ahead in {None, *above}
    assert all(fix_ahead("deb", fix, fixes) is None for fix in fixes)
    assert above or ahead is None
