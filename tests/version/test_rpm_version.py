# SPDX-License-Identifier: Apache-2.0
"""rpm's versions, with rpm's own comparison as the judge."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from copacetic.errors import InvalidVersionError
from copacetic.version import compare_versions, parse_version
from copacetic.version.rpm import compare_parts
from support.rpm.rpmvercmp import rpm_compares

PIECES = ("0", "1", "2", "10", "010", "99999999999999999999", "a", "b", "rc", "Z", ".", "_", "+", "~", "~~", "^", "^^")


@pytest.mark.parametrize(
    "ascending",
    [
        "1.0~alpha 1.0~rc1 1.0 1.0^ 1.0^20240101 1.0^20240101.1 1.0a 1.0.1 1.1 1.10",
        "1.0-1 1.0-1.el9 1.0-1.1 1.0-2 1.0-10 1:0.1-1 2:0.1-1",
        "5.1.8-6.el9 5.1.8-6.el9_1 5.1.8-9.el9",
        "2.34-52.amzn2023.0.2 2.34-52.amzn2023.0.3 2.34-83",
        "a 1",
        "1.0~rc1^git1 1.0~rc2",
    ],
)
def test_versions_have_rpms_order(ascending: str) -> None:
    for older, newer in pairwise(ascending.split()):
        assert compare_versions("rpm", older, newer) < 0, (older, newer)
        assert compare_versions("rpm", newer, older) > 0, (older, newer)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.0-1", "0:1.0-1"), ("1.05-1", "1.5-1"), ("1..0-1", "1.0-1"), (":1", "1"), ("0:0:2.0", "0.2.0")],
)
def test_equal_versions_may_be_spelled_differently(one: str, other: str) -> None:
    assert compare_versions("rpm", one, other) == 0
    assert parse_version("rpm", one) == parse_version("rpm", other)
    assert hash(parse_version("rpm", one)) == hash(parse_version("rpm", other))


def test_a_version_without_a_release_is_equal_to_one_with_any() -> None:
    assert compare_versions("rpm", "1.0", "1.0-7") == 0
    assert compare_versions("rpm", "1.0", "1:1.0-7") < 0


@pytest.mark.parametrize("text", ["", "1.0 ", "1.0\n", "²", "1\x00", "4294967296:1", "1" * 2000])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidVersionError, match="invalid rpm version"):
        parse_version("rpm", text)


@pytest.mark.parametrize("count", [4_000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_generated_versions_compare_as_in_rpm(count: int, tmp_path: Path) -> None:
    chosen = random.Random(count)
    words = ["".join(chosen.choices(PIECES, k=chosen.randint(1, 6))) for _ in range(count)]
    pairs = [(one, chosen.choice((other, one + other))) for one, other in pairwise(words)]
    judged = rpm_compares(pairs, tmp_path)

    differing = [(pair, order) for pair, order in zip(pairs, judged, strict=True) if compare_parts(*pair) != order]

    assert not differing
    assert {-1, 0, 1} <= set(judged)
