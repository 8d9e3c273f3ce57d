# SPDX-License-Identifier: Apache-2.0
"""rpm's databases that are small and cost a lot: read and written, or refused, within bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.hostile.boundedchild import CPU_LIMIT, MEMORY_LIMIT, BoundedChild
from support.hostile.hostilerpms import names

MODULE = "support.hostile.hostilerpms"


@pytest.fixture(scope="module")
def child() -> Iterator[BoundedChild]:
    with BoundedChild() as running:
        yield running


def check(child: BoundedChild, name: str, size: int) -> None:
    outcome = child.run(MODULE, name, size)
    assert outcome.how in {"done", "refused"}, outcome.message
    assert outcome.seconds < CPU_LIMIT
    assert outcome.memory < MEMORY_LIMIT


@pytest.mark.costly
@pytest.mark.parametrize("name", names())
def test_what_is_small_and_costs_a_lot_is_done_or_refused(child: BoundedChild, name: str) -> None:
    check(child, name, 1)


@pytest.mark.soak
@pytest.mark.parametrize("name", names())
def test_what_an_attacker_would_make_is_done_or_refused(child: BoundedChild, name: str) -> None:
    check(child, name, 10)
