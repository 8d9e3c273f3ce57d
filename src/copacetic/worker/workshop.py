# SPDX-License-Identifier: Apache-2.0
"""The place where a solver works: a helper in the first mode that works here, and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from copacetic.errors import SolverError, UnsupportedBuilderError
from copacetic.worker.agent import Agent, JobRefusedError
from copacetic.worker.modes import ModeRefusedError, candidates, explain_refusals
from copacetic.worker.results import Results
from copacetic.worker.store import Run, Store

__all__ = ["FOLDER", "Workshop"]

_END = 10.0
FOLDER = "worker.v1"


class Workshop:
    """Open until it is closed."""

    def __init__(self, agent: Agent, store: Store, run: Run, refused: Sequence[ModeRefusedError]) -> None:
        self.agent = agent
        self.store = store
        self.run = run
        self.refused = tuple(refused)
        """Modes that would have been better, and why they don't work here."""
        self.results = Results()
        self.empty = run.new_folder()
        self._held: list[int] = []

    @classmethod
    def open(cls, cache: Path, only: Sequence[str], *, disk_key: str = "") -> Workshop:
        """
        Open it in the first mode that works, of those in `only` if that isn't empty, and with `disk_key` if given.

        Raises `UnsupportedBuilderError` when no mode works here, `StorageError` when the folder can't be used.
        """
        if not hasattr(os, "fork") or not Path("/proc/self/status").exists():
            raise UnsupportedBuilderError(
                "the local worker needs Linux", hint="use BuildKit (--addr), or --strategy unpack"
            )
        modes, refused = candidates()
        for mode in modes:
            if (only and mode.name not in only) or (disk_key and mode.disk_key != disk_key):
                continue
            store = Store(cache / FOLDER / mode.disk_key)
            run = store.open_run()
            try:
                agent = Agent.start(mode, run.folder)
            except ModeRefusedError as error:
                refused.append(error)
            except BaseException:
                _abandon(run)
                raise
            else:
                shop = cls(agent, store, run, refused)
                shop.clean()
                return shop
            _abandon(run)
        message, hint = explain_refusals(refused)
        raise UnsupportedBuilderError(message, hint=hint)

    def hold(self, handles: Sequence[int]) -> None:
        """Keep layers from being removed by others until this is closed."""
        self._held.extend(handles)

    def clean(self) -> None:
        """Remove what killed runs left behind, and layers that nobody uses."""
        dead = self.store.take_dead_runs()
        self.remove([str(run.folder) for run in dead])
        for run in dead:
            run.close()
        self.store.take_unused(self.run)

    def drop_old_results(self) -> None:
        """Remove what was solved long ago."""
        mine = f"{self.run.folder}{os.sep}"
        self.remove([layer for layer in self.results.drop_old() if layer.startswith(mine)])

    def remove(self, paths: Sequence[str]) -> None:
        """Remove trees. What can't be removed now is tried again by a later run."""
        if paths:
            with contextlib.suppress(SolverError, JobRefusedError):
                self.agent.do("remove", {"paths": list(paths)})

    def close(self, *, keep: bool = True) -> None:
        """
        End everything, and remove the folder; without `keep`, unpacked layers that nobody else uses, too.
        """
        try:
            if self.results.in_use:
                # Somebody waits for something that runs: it ends first, and another helper cleans up.
                self.agent.close()
                with contextlib.suppress(SolverError, ModeRefusedError):
                    self.agent = Agent.start(self.agent.mode, self.run.folder)
            self._let_go()
            if not keep:
                for one in self.store.kept():
                    self.store.take(one, self.run)
            self.remove([str(self.run.folder)])
        finally:
            self.agent.close()
            self._let_go()
            self.run.close()

    def _let_go(self) -> None:
        """Let others remove the layers that were used here."""
        while self._held:
            os.close(self._held.pop())


def _abandon(run: Run) -> None:
    shutil.rmtree(run.folder, ignore_errors=True)
    run.close()
