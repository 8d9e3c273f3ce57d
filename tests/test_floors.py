# SPDX-License-Identifier: Apache-2.0
"""A property test that passes because nothing is accepted fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.floors import accepting, refusal


@accepting(0.1)
@given(st.integers(0, 1000))
def _accepts_few(number: int) -> None:
    with refusal(ValueError):
        if number != 7:
            raise ValueError


@accepting(0.1)
def _tries_nothing() -> None: ...


def test_a_test_in_which_too_little_is_accepted_fails() -> None:
    with pytest.raises(AssertionError, match=r"^\d of 100 are accepted"):
        _accepts_few()
    with pytest.raises(AssertionError, match="^0 of 0 are accepted"):
        _tries_nothing()


@accepting(0.1)
@given(st.integers(0, 1000))
def test_a_test_in_which_enough_is_accepted_passes(number: int) -> None:
    with refusal(ValueError):
        if number % 2:
            raise ValueError
