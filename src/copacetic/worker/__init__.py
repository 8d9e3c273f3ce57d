# SPDX-License-Identifier: Apache-2.0
"""
The local worker: solves graphs on this machine, without any daemon.

`WorkerSolver` is a `Solver`. Its helper process (`worker.inside`) does everything that touches an image's files, in
namespaces of its own where the machine allows that; this process only plans, fetches and asks.

It is frozen: it gets no mode besides those of `worker.modes`, and solves no operation that no graph of ours has. Who
needs more of a builder takes BuildKit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from copacetic.worker.solver import WorkerSettings, WorkerSolver

__all__ = ["WorkerSettings", "WorkerSolver"]


def __getattr__(name: str) -> Any:
    # The helper process imports this package, too, and has no use for the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from copacetic.worker import solver

    return getattr(solver, name)
