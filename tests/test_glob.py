# SPDX-License-Identifier: Apache-2.0
"""Patterns match what the C library's fnmatch matches."""

from __future__ import annotations

import ctypes
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from copacetic.glob import matches_glob, quote_glob

_libc = ctypes.CDLL(None)
PARTS = [
    "a",
    ":]",
    "[:",
    "b",
    "-",
    "*",
    "?",
    "[",
    "]",
    "!",
    "^",
    "\\",
    "/",
    ".",
    "[^a]",
    "[!a-c]",
    "[[:alpha:]]",
    "[[:punct:]]",
]


def fnmatch(text: str, pattern: str) -> bool:
    return int(_libc.fnmatch(pattern.encode(), text.encode(), 0)) == 0


@given(st.lists(st.sampled_from(PARTS), max_size=7).map("".join), st.text(alphabet="abz-/.[]!^\\", max_size=6))
@settings(max_examples=2_000)
@example("[^a]", "b")
@example("[]a]", "]")
@example("[a\\]b]", "]")
@example("[z-a]", "m")
@example("a\\", "a")
@example("[[:]x[a]", "[[:]xa")
@example("[:[:[[:alpha:]]", "[")
@example("[^[:a:]]", "b")
@example("[a[:b:]]", "a")
def test_it_is_the_c_librarys(pattern: str, text: str) -> None:
    assert matches_glob(text, pattern) == fnmatch(text, pattern)


@given(st.text(alphabet="ab*?[]\\!^-", max_size=8))
def test_what_is_quoted_matches_itself_alone(text: str) -> None:
    assert matches_glob(text, quote_glob(text))
    assert not matches_glob(f"{text}a", quote_glob(text))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "pattern",
    ["*a" * 200 + "b", "*" * 5_000 + "b", "[" * 5_000, "[^a]*" * 500],
    ids=["stars", "only stars", "open", "sets"],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    started = time.process_time()
    matches_glob("a" * 4_000, pattern)
    assert time.process_time() - started < 5
