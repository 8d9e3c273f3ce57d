# SPDX-License-Identifier: Apache-2.0
"""Debian versions are ordered as dpkg orders them."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copacetic.errors import InvalidVersionError
from copacetic.version import compare_versions
from copacetic.version.deb import DebVersion

ORDERED = [
    "1.0~~", "1.0~~a", "1.0~rc1", "1.0~rc1-1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1+deb12u1", "1.0-1.1", "1.0a", "1.0+git",
    "1.0.1", "1.2", "1.10", "1:0.9", "1:0.9-0.1", "2:0",
]  # fmt: skip
PAIRS = list(itertools.combinations(ORDERED, 2))

_part = st.text("0123456789abzAZ.+~", max_size=8)
versions = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "0:", "1:", "12:"]),
        st.sampled_from("0123"),
        _part,
        st.sampled_from(["", "-1", "-0", "-a~1", "-1-2"]),
    ),
)


def dpkg_order(pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Ask the real dpkg, many pairs in one process."""
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    script = 'while read -r a b; do if dpkg --compare-versions "$a" lt "$b"; then echo -1; elif dpkg --compare-versions "$a" eq "$b"; then echo 0; else echo 1; fi; done'
    text = "".join(f"{a} {b}\n" for a, b in pairs)
    result = subprocess.run(["sh", "-c", script], input=text, capture_output=True, text=True, check=True)
    return [int(line) for line in result.stdout.split()]


@pytest.mark.parametrize(("older", "newer"), PAIRS)
def test_the_sorted_list_is_sorted(older: str, newer: str) -> None:
    assert DebVersion(older) < DebVersion(newer)
    assert compare_versions("deb", newer, older) > 0


def test_dpkg_agrees_with_the_sorted_list() -> None:
    assert dpkg_order(PAIRS) == [-1] * len(PAIRS)


def _agrees(pairs: list[tuple[str, str]]) -> None:
    assert [compare_versions("deb", a, b) for a, b in pairs] == dpkg_order(pairs)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(versions, versions), min_size=20, max_size=40))
def test_dpkg_agrees_on_generated_versions(pairs: list[tuple[str, str]]) -> None:
    _agrees(pairs)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(versions, versions), min_size=50, max_size=100))
def test_dpkg_agrees_on_many_generated_versions(pairs: list[tuple[str, str]]) -> None:
    _agrees(pairs)


@given(versions, versions, versions)
def test_the_order_is_transitive_and_total(a: str, b: str, c: str) -> None:
    one, two, three = sorted([DebVersion(a), DebVersion(b), DebVersion(c)])

    assert one <= two <= three
    assert one <= three
    assert (one == three) == (one == two == three)


@given(versions)
def test_a_version_is_never_normalised(text: str) -> None:
    assert str(DebVersion(text)) == text


def test_an_absent_revision_and_epoch_are_zero() -> None:
    assert DebVersion("1.0") == DebVersion("1.0-0") == DebVersion("0:1.0")
    assert hash(DebVersion("1.0")) == hash(DebVersion("0:1.0-0"))


@pytest.mark.parametrize(
    "text", ["", "x1", "1.0-", "1 0", "a:1", ":1", "1:2:3\n", "9" * 600, "99999999999:1", "1\u0663", "1_2"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidVersionError, match="invalid deb version"):
        DebVersion(text)


def test_a_package_type_without_a_scheme_is_named() -> None:
    with pytest.raises(InvalidVersionError, match="'gem'"):
        compare_versions("gem", "1", "2")
