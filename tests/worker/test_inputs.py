# SPDX-License-Identifier: Apache-2.0
"""What a graph takes from outside: secrets, directories, images by name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.solving import AMD64, read, shell, tree
from copacetic import llb
from copacetic.cache import Cache
from copacetic.errors import SolverError
from copacetic.llb.solver import Inputs
from copacetic.oci import Digest
from copacetic.worker import WorkerSettings, WorkerSolver
from support.builder.builder import BASE
from support.builder.worker import open_worker
from support.image.busybox import busybox_image
from support.image.images import MemorySource

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]


@pytest.fixture(params=MODES)
def solver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerSolver]:
    modes = [request.param] if request.param else []
    with open_worker(tmp_path / "worker", modes=modes, images={BASE: busybox_image()}) as worker:
        yield worker


def test_a_directory_s_owners_become_root_and_devices_stay_out(solver: WorkerSolver, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/f").write_text("x")
    (folder / "sub").chmod(0o2770)
    if os.geteuid() == 0:
        os.chown(folder / "sub/f", 7, 8)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        found = tree(solver, llb.local("d"), inputs=Inputs(directories={"d": folder}))

    assert found == {"sub": "directory 2770 0:0", "sub/f": "file 644 0:0 x"}


def test_an_image_that_leads_to_another_digest_is_refused(solver: WorkerSolver) -> None:
    image = busybox_image()
    state = llb.oci_layout("client/image", Digest("sha256", "0" * 64), store="it")

    with pytest.raises(SolverError, match="leads to"):
        read(solver, state, "old/file", inputs=Inputs(images={"it": MemorySource(image)}))


def test_a_name_whose_image_has_changed_is_solved_again(tmp_path: Path) -> None:
    from support.image.images import make_image, make_layer

    current = {"it": make_image([make_layer({"f": "one"})])}
    worker = WorkerSolver(
        WorkerSettings(cache=Cache(tmp_path), open_image=lambda name: MemorySource(current["it"], name))
    )
    try:
        state = llb.image("registry.example/image:1")
        assert read(worker, state, "f") == ["one"]
        current["it"] = make_image([make_layer({"f": "two"})])
        assert read(worker, state, "f") == ["two"]
    finally:
        worker.close()


def test_proxies_are_seen_by_the_program_and_name_resolution_only_with_a_network(solver: WorkerSolver) -> None:
    proxy = llb.graph.ProxyEnv(http="http://proxy:1", no="localhost")
    script = "env | grep -i proxy | sort > /out; test -s /etc/resolv.conf && echo resolves >> /out || true"
    with_network = shell(script, proxy=proxy, network=llb.Network.SANDBOX).root
    without = shell("test -e /etc/resolv.conf && echo resolves > /out || echo alone > /out").root

    assert read(solver, with_network, "out") == [
        "HTTP_PROXY=http://proxy:1\nNO_PROXY=localhost\nhttp_proxy=http://proxy:1\nno_proxy=localhost\nresolves\n"
    ]
    assert read(solver, without, "out") == ["alone\n"]


def test_a_host_name_is_found_in_the_hosts_file(solver: WorkerSolver) -> None:
    assert "127.0.0.1\tlocalhost here\n" in read(solver, shell("cat /etc/hosts > /out", hostname="here").root, "out")[0]


def test_capabilities_name_the_sandbox(solver: WorkerSolver) -> None:
    found = solver.capabilities()

    assert found.name.startswith("worker (")
    assert found.merge_diff
    assert AMD64 in found.platforms or found.platforms[0].architecture != "amd64"
    assert found.labels["mode"] in {"root", "all", "chroot", "ids", "single"}
