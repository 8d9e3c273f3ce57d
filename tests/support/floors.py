# SPDX-License-Identifier: Apache-2.0
"""
Property tests of inputs that may be refused: a share of them is accepted, or nothing but the first check was tried.

    @accepting(0.2)
    @given(TEXTS)
    def test_any_text_is_a_relation_or_refused(text: str) -> None:
        with refusal(RelationError):
            parse_relations(text)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

_P = ParamSpec("_P")
_accepted: list[bool] = []


def tally(*, accepted: bool) -> None:
    """Count an input."""
    _accepted.append(accepted)


@contextmanager
def refusal(kind: type[Exception]) -> Iterator[None]:
    """Pass over an error of this kind, and count whether there was one."""
    try:
        yield
    except kind:
        tally(accepted=False)
    else:
        tally(accepted=True)


def accepting(floor: float) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """Fail a test that has passed, when less than this share of what it tried was accepted."""

    def decorate(test: Callable[_P, None]) -> Callable[_P, None]:
        @functools.wraps(test)
        def run(*arguments: _P.args, **named: _P.kwargs) -> None:
            _accepted.clear()
            test(*arguments, **named)
            assert sum(_accepted) >= floor * len(_accepted) > 0, f"{sum(_accepted)} of {len(_accepted)} are accepted"

        return run

    return decorate
