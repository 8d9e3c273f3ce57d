# SPDX-License-Identifier: Apache-2.0
"""Lines end at line feeds, and nowhere else."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.lines import split_lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", []), ("\n", [""]), ("a", ["a"]), ("a\n", ["a"]), ("a\n\nb", ["a", "", "b"]), ("a\x0c\x85\u2028b\r\n", ["a\x0c\x85\u2028b\r"])],
)  # fmt: skip
def test_lines(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@given(st.text(alphabet=st.sampled_from("ab\n\r\x0b\x0c\x1c\x85\u2028")))
def test_they_are_those_of_a_file(text: str) -> None:
    assert split_lines(text) == [line.removesuffix("\n") for line in io.StringIO(text, newline="\n")]
