# SPDX-License-Identifier: Apache-2.0
"""What a recipe would run."""

from __future__ import annotations

from copacetic.llb.graph import ExecOp
from copacetic.pkgmgr import Recipe


def run_of(recipe: Recipe) -> ExecOp:
    """Return the run that a result comes from."""
    vertex = recipe.result.vertex
    assert isinstance(vertex, ExecOp)
    return vertex
