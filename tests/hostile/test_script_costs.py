# SPDX-License-Identifier: Apache-2.0
"""Scripts that make much of little: nobody follows them to the end, and the package needs execution, soon."""

from __future__ import annotations

import pytest

from support.hostile.boundedchild import CPU_LIMIT, MEMORY_LIMIT, BoundedChild
from support.hostile.hostilescripts import HARMLESS, cases


@pytest.mark.costly
@pytest.mark.parametrize(("name", "family"), cases())
def test_a_script_is_judged_soon_whatever_it_makes_of_little(child: BoundedChild, name: str, family: str) -> None:
    outcome = child.run("support.hostile.hostilescripts", name, family)

    assert outcome.how == "done", outcome.message
    assert outcome.message.startswith("harmless" if name in HARMLESS else "needs-execution"), outcome.message
    assert outcome.seconds < CPU_LIMIT
    assert outcome.memory < MEMORY_LIMIT
