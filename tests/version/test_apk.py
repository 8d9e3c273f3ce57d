# SPDX-License-Identifier: Apache-2.0
"""apk's versions, with `apk version` of real Alpine roots as the judge."""

from __future__ import annotations

import random
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from copacetic.errors import InvalidVersionError
from copacetic.version import compare_versions, parse_version
from support.apk.apkoracle import alpine_root, run_in

SCHEMES = ("apk", "apk2")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "ascending",
    [
        "1.0_alpha 1.0_alpha2 1.0_beta 1.0_pre 1.0_rc1 1.0 1.0_cvs 1.0_svn 1.0_git1 1.0_hg 1.0_p 1.0_p1",
        "1.0 1.0-r0 1.0-r1 1.0-r10 1.0a 1.0b 1.0.1 1.1 1.10",
        "1.36.1-r7 1.36.1-r19 1.37.0_rc1-r0 1.37.0-r0",
        "1.2.4_git20230717-r4 1.2.5-r0",
        "9 10 20240226",
        "1.0_rc1-r5 1.0_rc1_p1 1.0_rc2",
    ],
)
def test_versions_have_the_order_that_apk_documents(scheme: str, ascending: str) -> None:
    for older, newer in pairwise(ascending.split()):
        assert compare_versions(scheme, older, newer) < 0, (older, newer)
        assert compare_versions(scheme, newer, older) > 0, (older, newer)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equal_versions_may_be_spelled_differently(scheme: str) -> None:
    assert compare_versions(scheme, "1.0-r01", "1.0-r1") == 0
    assert parse_version(scheme, "1.0-r01") == parse_version(scheme, "1.0-r1")
    assert hash(parse_version(scheme, "1.0-r01")) == hash(parse_version(scheme, "1.0-r1"))


@pytest.mark.parametrize(
    ("one", "other", "in_2", "in_3"),
    [
        ("1.005", "1.05", -1, -1),
        ("1.05", "1.5", -1, -1),
        ("1.05", "1.1", -1, -1),
        ("1.050", "1.05", 1, 1),
        ("1.010", "1.0101", -1, -1),
        ("1.09", "1.010", -1, 1),
    ],
)
def test_leading_zeros_count_by_number_in_2_and_by_byte_in_3(one: str, other: str, in_2: int, in_3: int) -> None:
    assert compare_versions("apk2", one, other) == in_2
    assert compare_versions("apk", one, other) == in_3


def test_a_commit_is_valid_in_3_only_and_comes_before_the_revision() -> None:
    with pytest.raises(InvalidVersionError):
        parse_version("apk2", "1.0~abc-r0")

    assert compare_versions("apk", "1.0~abc-r0", "1.0~abc-r1") < 0
    assert compare_versions("apk", "1.0~abc", "1.0~abd") < 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", ["", "1.0_foo", "1.0-1", "1.0 ", "1:1.0", "1.0_rcx", "²", "1" * 600])
def test_what_is_no_version_is_refused(scheme: str, text: str) -> None:
    with pytest.raises(InvalidVersionError, match="invalid apk version"):
        parse_version(scheme, text)


@pytest.mark.parametrize("text", ["a", "-r1", "1.a", "1."])
def test_a_missing_number_is_valid_in_2_only(text: str) -> None:
    assert str(parse_version("apk2", text)) == text
    with pytest.raises(InvalidVersionError):
        parse_version("apk", text)


@pytest.mark.system
@pytest.mark.parametrize("count", [1_500, pytest.param(40_000, marks=pytest.mark.soak)])
def test_any_two_versions_have_the_order_that_apk_gives_them(count: int, tmp_path: Path) -> None:
    root = alpine_root("3.18.2", tmp_path / "root")
    pairs = _pairs(random.Random(20_240_226), count)
    (root / "pairs.sh").write_text("".join(f"apk version -t {shlex.quote(a)} {shlex.quote(b)}\n" for a, b in pairs))

    judged = run_in(root, "sh /pairs.sh").output.split()

    assert len(judged) == len(pairs)
    for (one, other), sign in zip(pairs, judged, strict=True):
        if _valid(one) and _valid(other):
            assert "<=>"[compare_versions("apk2", one, other) + 1] == sign, (one, other)


@pytest.mark.system
def test_a_version_is_valid_when_apk_says_so(tmp_path: Path) -> None:
    root = alpine_root("3.18.2", tmp_path / "root")
    versions = sorted({version for pair in _pairs(random.Random(7), 600) for version in pair})
    (root / "versions").write_text("".join(f"{version}\n" for version in versions))

    invalid = run_in(root, "xargs apk version -c < /versions").output.split()

    assert set(invalid) == {version for version in versions if not _valid(version)}
    assert 50 < len(invalid) < len(versions) - 50


def _valid(version: str) -> bool:
    try:
        parse_version("apk2", version)
    except InvalidVersionError:
        return False
    return True


def _pairs(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """Return pairs of versions, valid and not, half of them close to each other."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        one = _version(chance)
        other = _changed(chance, one) if chance.random() < 0.5 else _version(chance)
        if not {"-", ""} & {one[:1], other[:1]}:
            pairs.append((one, other))
    return pairs


def _version(chance: random.Random) -> str:
    start = chance.choice(["0", "1", "2", "10", "1.0", "1.2", "1.0.5", "007", "3.1", "20240226", "123456789012345678"])
    if chance.random() < 0.3:
        return start + "".join(_piece(chance) for _ in range(chance.randrange(4)))
    parts = [chance.choice(["", ".1", ".0", ".05", ".050", ".10"]) for _ in range(2)]
    parts.append(chance.choice(["", "a", "b", "c"]))
    parts += [chance.choice(["", "", "_p1", "_rc1", "_git20230717", "_alpha", "_p", "_beta2"]) for _ in range(2)]
    parts.append(chance.choice(["", "", "-r0", "-r1", "-r10"]))
    return start + "".join(parts)


def _piece(chance: random.Random) -> str:
    number = chance.choice(["0", "00", "01", "1", "05", "10", "010", "9", "20230717", ""])
    suffix = chance.choice(["alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p", "foo", "preview", "rcx"])
    return chance.choice(
        [f".{number}", chance.choice("abzcr"), f"_{suffix}{number}", f"-r{number}", number, "-", "_", ".", "+"]
    )


def _changed(chance: random.Random, version: str) -> str:
    at = chance.randrange(len(version))
    return version[:at] + chance.choice(["", _piece(chance), version[at] * 2]) + version[at + 1 :]
