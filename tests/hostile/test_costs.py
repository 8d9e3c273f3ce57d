# SPDX-License-Identifier: Apache-2.0
"""Packages, indexes, databases and documents that are small and cost a lot: done or refused within bounds."""

from __future__ import annotations

import pytest

from support.hostile.boundedchild import BoundedChild
from support.hostile.hostilepackages import LARGE, SMALL, names

MODULE = "support.hostile.hostilepackages"


@pytest.mark.costly
@pytest.mark.parametrize("name", names())
def test_what_is_small_and_costs_a_lot_is_done_or_refused(child: BoundedChild, name: str) -> None:
    child.run(MODULE, name, SMALL).check()


@pytest.mark.soak
@pytest.mark.parametrize("name", names())
def test_what_an_attacker_would_send_is_done_or_refused(child: BoundedChild, name: str) -> None:
    child.run(MODULE, name, LARGE).check()
