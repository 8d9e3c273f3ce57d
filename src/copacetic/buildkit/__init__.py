# SPDX-License-Identifier: Apache-2.0
"""BuildKit: graphs solved by a daemon, over any byte stream. `solver.BuildkitSolver` is the way in."""
