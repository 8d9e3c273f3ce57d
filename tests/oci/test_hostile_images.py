# SPDX-License-Identifier: Apache-2.0
"""Whatever an image of up to 10 MB holds, it is looked at or refused within seconds and a bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.hostile import hostileimages
from support.hostile.boundedchild import CPU_LIMIT, BoundedChild


@pytest.fixture(scope="module")
def child() -> Iterator[BoundedChild]:
    with BoundedChild() as process:
        yield process


@pytest.mark.costly
@pytest.mark.parametrize("name", sorted({*hostileimages.names()} - hostileimages.SLOW))
def test_a_hostile_image_is_done_or_refused_in_time(child: BoundedChild, name: str) -> None:
    outcome = child.run("support.hostile.hostileimages", name, hostileimages.SMALL)

    assert outcome.how in {"done", "refused"}, outcome
    assert outcome.seconds < CPU_LIMIT, outcome


@pytest.mark.soak
@pytest.mark.parametrize("size", [hostileimages.MEDIUM, hostileimages.LARGE])
@pytest.mark.parametrize("name", hostileimages.names())
def test_a_hostile_image_of_megabytes_is_done_or_refused_in_time(child: BoundedChild, name: str, size: int) -> None:
    outcome = child.run("support.hostile.hostileimages", name, size)

    assert outcome.how in {"done", "refused"}, outcome
    assert outcome.seconds < CPU_LIMIT, outcome
