# SPDX-License-Identifier: Apache-2.0
"""The control group of a run, on this machine where it can be made, and as version 2 has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.solving import read, shell
from copacetic.worker.inside import cgroup
from copacetic.worker.inside.cgroup import ControlGroup
from support.builder.builder import BASE
from support.builder.worker import open_worker
from support.image.busybox import busybox_image


@pytest.fixture
def parent() -> Iterator[Path]:
    """The group beside or below ours in which one can be made."""
    for place, _ in cgroup._parents() if os.geteuid() == 0 else ():
        left = Path(place, "copacetic-0-left-behind")
        with contextlib.suppress(OSError):
            left.mkdir(exist_ok=True)
            if (left / "pids.max").exists():
                yield Path(place)
                return
            left.rmdir()
    pytest.skip("no control group can be made here")


@pytest.mark.system
@pytest.mark.parametrize("mode", ["root", "all", "chroot"])
def test_a_run_has_a_group_of_its_own_which_goes_with_it_and_takes_older_ones_along(
    parent: Path, mode: str, tmp_path: Path
) -> None:
    script = "cat /proc/self/cgroup > /out" if mode != "chroot" else "sleep 0.2; : > /out"
    with open_worker(tmp_path, modes=[mode], images={BASE: busybox_image()}) as worker:
        [text] = read(worker, shell(script).root, "out")

    assert mode == "chroot" or "/copacetic-" in text
    assert not (parent / "copacetic-0-left-behind").exists()


_mkdir = os.mkdir


class Kernel:
    """Makes the files of a new group, as cgroup2 does."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own = root / "own"
        self.own.mkdir()
        monkeypatch.setattr(cgroup, "_parents", lambda: [(str(root), str(self.own))])
        monkeypatch.setattr(os, "mkdir", self.make)
        self.made: Path | None = None

    def make(self, path: str) -> None:
        self.made = Path(path)
        _mkdir(path)
        for name in ("pids.max", "memory.max", "memory.oom.group", "cgroup.procs"):
            (self.made / name).write_text("")

    def read(self, name: str) -> str:
        assert self.made is not None
        return (self.made / name).read_text()


def test_a_group_has_no_more_than_the_one_that_we_are_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    (kernel.own / "memory.max").write_text("1000\n")
    (kernel.own / "pids.max").write_text("max\n")
    (kernel.own / "memory.oom.group").write_text("0\n")

    group = ControlGroup({"pids.max": 50, "memory.max": 9000, "memory.oom.group": 1})
    group.enter()

    assert [kernel.read(name) for name in ("pids.max", "memory.max", "memory.oom.group", "cgroup.procs")] == [
        "50", "1000", "1", "0"
    ]  # fmt: skip


def test_where_none_can_be_made_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_parents", lambda: [(str(tmp_path / "nowhere"), ""), (str(tmp_path), "")])

    group = ControlGroup({"pids.max": 50})
    group.enter()
    group.remove()

    assert list(tmp_path.iterdir()) == []
