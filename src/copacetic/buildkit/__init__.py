# SPDX-License-Identifier: Apache-2.0
"""BuildKit: graphs solved by a daemon, over any byte stream. `BuildkitSolver` is the way in."""

from copacetic.buildkit.solver import BuildkitSolver

__all__ = ["BuildkitSolver"]
