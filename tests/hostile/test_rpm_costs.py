# SPDX-License-Identifier: Apache-2.0
"""rpm's databases that are small and cost a lot: read and written, or refused, within bounds."""

from __future__ import annotations

import pytest

from support.hostile.boundedchild import BoundedChild
from support.hostile.hostilerpms import names

MODULE = "support.hostile.hostilerpms"


@pytest.mark.costly
@pytest.mark.parametrize("name", names())
def test_what_is_small_and_costs_a_lot_is_done_or_refused(child: BoundedChild, name: str) -> None:
    child.run(MODULE, name, 1).check()


@pytest.mark.soak
@pytest.mark.parametrize("name", names())
def test_what_an_attacker_would_make_is_done_or_refused(child: BoundedChild, name: str) -> None:
    child.run(MODULE, name, 10).check()
