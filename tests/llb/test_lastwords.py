# SPDX-License-Identifier: Apache-2.0
"""What is shown of a failed process's output: the end, and the line that names the cause, however much followed."""

from __future__ import annotations

import random

import pytest

from copacetic.llb.lastwords import KEPT, LINE, LastWords

NOISE = "".join(f"Setting up package {number} ...\n" for number in range(3_000))
LAST = " | ".join(f"Setting up package {number} ..." for number in range(2_995, 3_000))
CAUSES = {
    "dpkg: error: dpkg frontend lock is locked\n": "dpkg: error: dpkg frontend lock is locked",
    "dpkg: regarding a.deb containing a, pre-dependency problem:\n a pre-depends on b (>= 2)\n  b is 1.\n": (
        "dpkg: regarding a.deb containing a, pre-dependency problem: | a pre-depends on b (>= 2)"
    ),
    "dpkg: error processing archive a.deb (--unpack):\n trying to overwrite '/x', which is also in b\n": (
        "dpkg: error processing archive a.deb (--unpack): | trying to overwrite '/x', which is also in b"
    ),
    "E: Unable to locate package a\nE: Sub-process dpkg returned an error code (1)\n": "E: Unable to locate package a",
    "E: Sub-process dpkg returned an error code (1)\nE: the real one\n": "E: the real one",
    "  ERROR: a-2-r0: trying to overwrite x owned by b-1-r0.\n": "ERROR: a-2-r0: trying to overwrite x owned by b-1-r0.",
    "ERROR: unable to select packages:\n  gone (no such package):\n    required by: world[gone]\n": (
        "ERROR: unable to select packages: | gone (no such package):"
    ),
}


@pytest.mark.parametrize(("said", "cause"), CAUSES.items())
def test_the_first_cause_is_shown_before_the_last_lines(said: str, cause: str) -> None:
    words = LastWords()
    words.add(f"Unpacking a ...\n{said}{NOISE}ERROR: another\n")

    first, *last = LAST.split(" | ")
    assert words.show() == f"{cause} | … | {' | '.join(last)} | ERROR: another"
    assert first not in words.show()


@pytest.mark.parametrize("size", [1, 7, 100])
def test_it_does_not_matter_where_the_output_is_cut(size: int) -> None:
    text = f"{NOISE[:900]}{next(iter(CAUSES))}{NOISE[:900]}the end"
    whole, pieces = LastWords(), LastWords()
    whole.add(text)
    for at in range(0, len(text), size):
        pieces.add(text[at : at + size])

    assert pieces.show() == whole.show()
    assert whole.show().startswith("dpkg: error: dpkg frontend lock is locked | … | ")
    assert whole.show().endswith(" | the end")


def test_what_is_among_the_last_lines_is_shown_once() -> None:
    words = LastWords()
    words.add("one\nE: broken\n\n  two\n")

    assert words.show() == "one | E: broken | two"


def test_what_only_looks_like_a_cause_is_none() -> None:
    words = LastWords()
    words.add(f"the text E: in a line\nWARNING: dpkg: error\n{NOISE}")

    assert words.show() == LAST


def test_nothing_said_is_nothing_shown() -> None:
    words = LastWords()
    words.add(" \n\n\t\n")

    assert (words.show(), words.lines()) == ("", ())


def test_what_is_kept_has_a_size_of_its_own() -> None:
    words = LastWords()
    source = random.Random(1)
    for _ in range(50):
        words.add("x" * source.randrange(1, 200_000))
        words.add("E: " + "y" * 100_000 + "\n")

    assert len(words.lines()) <= KEPT + 2
    assert all(len(line) <= LINE for line in words.lines())
