# SPDX-License-Identifier: Apache-2.0
"""What is tried on hostile input runs in a process of its own, one for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.hostile.boundedchild import BoundedChild


@pytest.fixture(scope="module")
def child() -> Iterator[BoundedChild]:
    with BoundedChild() as running:
        yield running
