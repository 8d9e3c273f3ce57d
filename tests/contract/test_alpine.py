# SPDX-License-Identifier: Apache-2.0
"""Alpine's own apk, run by every solver: what comes of it is the very layer that the embedded engine composes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import copacetic
from copacetic import api, session
from copacetic.llb.solver import Solver
from copacetic.repository import RepositorySettings
from copacetic.request import Strategy
from support.apk.apkoracle import alpine_image
from support.image.images import assert_valid_image, fixture
from support.server.served import Served, serve


class _Lent:
    """A solver that somebody else closes."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def close(self) -> None: ...


def test_an_upgrade_by_apk_gives_the_layer_that_is_composed_without_it(
    solver: Solver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = alpine_image("3.18.2", tmp_path / "image")
    folder = fixture("alpine/repo-3.18.9")
    served = Served()
    served.add_folder(folder)
    monkeypatch.setattr(session, "open_solver", lambda *_means: _Lent(solver))

    outcomes = {}
    with serve(served):
        settings = api.Settings(
            cache_dir=tmp_path / "cache",
            repository=RepositorySettings(
                definitions=(served.address,), keyrings=tuple(folder.glob("*.rsa.pub")), host_root=None
            ),
        )
        for strategy in (Strategy.EXEC, Strategy.UNPACK):
            request = copacetic.PatchRequest(
                image=image, destination=f"oci:{tmp_path / 'out'}:{strategy}", strategy=strategy
            )
            (outcomes[strategy],) = copacetic.patch(request, settings=settings).platforms

    run, composed = outcomes[Strategy.EXEC], outcomes[Strategy.UNPACK]
    assert run.plan is not None
    assert run.plan.strategy == "exec"
    assert len(run.plan.updates) == 9
    assert run.layer == composed.layer
    assert len(assert_valid_image(tmp_path / "out", "exec")["layers"]) == 2
