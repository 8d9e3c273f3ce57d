# SPDX-License-Identifier: Apache-2.0
"""What the worker keeps between runs is shown and removed, and what somebody uses is not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from contract.solving import base, read, shell
from copacetic.cache import Cache
from copacetic.cli import main
from copacetic.worker import WorkerSettings, WorkerSolver
from copacetic.worker.housekeeping import prune_worker, worker_usage
from support.builder.builder import BASE
from support.builder.worker import open_worker
from support.image.busybox import busybox_image
from support.image.images import MemorySource

pytestmark = pytest.mark.system


def _fill(folder: Path) -> None:
    with open_worker(folder, images={BASE: busybox_image()}) as worker:
        read(worker, shell("echo y > /out").root, "out")


def test_layers_are_shown_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fill(tmp_path)

    assert main(["cache", "info", "--cache-dir", str(tmp_path), "--format", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["buckets"]}
    [layers] = [row for name, row in rows.items() if name.endswith("/layers")]
    assert layers["entries"] == 1
    assert layers["size"] > 1_000_000

    assert main(["cache", "prune", "--cache-dir", str(tmp_path)]) == 0
    assert "freed" in capsys.readouterr().err
    assert worker_usage(tmp_path) == ()
    assert [path for path in tmp_path.glob("worker.v1/*/*/*") if path.parent.name != "locks"] == []


def test_a_folder_may_be_named_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with open_worker(Path("here"), images={BASE: busybox_image()}) as worker:
        assert read(worker, shell("cp /old/file /out").root, "out") == ["old\n"]

    assert worker_usage(tmp_path / "here") != ()


def test_what_a_worker_uses_is_not_removed(tmp_path: Path) -> None:
    with open_worker(tmp_path, images={BASE: busybox_image()}) as worker:
        assert read(worker, base(), "old/file") == ["old\n"]

        assert prune_worker(tmp_path) == 0
        assert read(worker, shell("cp /old/file /out").root, "out") == ["old\n"]

    assert prune_worker(tmp_path) > 1_000_000


def test_what_was_used_lately_and_what_fits_is_kept(tmp_path: Path) -> None:
    _fill(tmp_path)

    assert prune_worker(tmp_path, unused_for=3600) == 0
    assert prune_worker(tmp_path, keep_bytes=1 << 40) == 0
    for path in tmp_path.glob("worker.v1/*/layers/*.json"):
        os.utime(path, (time.time() - 7200,) * 2)
    assert prune_worker(tmp_path, unused_for=3600) > 1_000_000


def test_layers_that_nobody_used_for_a_week_go_by_themselves(tmp_path: Path) -> None:
    _fill(tmp_path)
    for path in tmp_path.glob("worker.v1/*/layers/*.json"):
        os.utime(path, (time.time() - 8 * 24 * 3600,) * 2)

    with open_worker(tmp_path, images={}) as worker:
        worker.capabilities()

    assert list(tmp_path.glob("worker.v1/*/layers/*")) == []


def test_a_worker_that_keeps_nothing_leaves_nothing(tmp_path: Path) -> None:
    worker = WorkerSolver(WorkerSettings(cache=Cache(tmp_path), keep=False, open_image=_open))
    try:
        assert read(worker, shell("echo y > /out").root, "out") == ["y\n"]
    finally:
        worker.close()

    assert [path for path in tmp_path.glob("worker.v1/*/*/*") if path.parent.name != "locks"] == []


def _open(name: str) -> MemorySource:
    return MemorySource(busybox_image(), name)
