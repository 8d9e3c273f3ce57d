# SPDX-License-Identifier: Apache-2.0
"""
The solvers that every case runs against. A new one is one line in `SOLVERS` and a function beside it.

A function gets pytest's request, for fixtures of its own, and yields a `Solver` that resolves `BASE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from copacetic.buildkit import BuildkitSolver
from copacetic.llb.solver import Solver

Factory = Callable[[pytest.FixtureRequest], AbstractContextManager[Solver]]


@contextmanager
def _buildkit(request: pytest.FixtureRequest) -> Iterator[Solver]:
    daemon = request.getfixturevalue("buildkit").daemon
    solver = BuildkitSolver(daemon.connect, daemon.address, limit=120)
    try:
        yield solver
    finally:
        solver.close()


SOLVERS: dict[str, Factory] = {
    "buildkit": _buildkit,
}


@pytest.fixture(
    params=[
        pytest.param(make, id=name, marks=[pytest.mark.system, pytest.mark.xdist_group(name)])
        for name, make in SOLVERS.items()
    ]
)
def solver(request: pytest.FixtureRequest) -> Iterator[Solver]:
    """A solver of the kind that is tested."""
    with request.param(request) as made:
        yield made
