# SPDX-License-Identifier: Apache-2.0
"""Images of other architectures: run by an emulator that is on this machine, whoever's worker it is."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.solving import Recorder
from copacetic import llb
from copacetic.errors import SolverError
from copacetic.llb.solver import Inputs
from copacetic.oci import Platform
from copacetic.worker import platforms
from support.builder.worker import open_worker
from support.image.images import MemorySource, fixture, make_image, make_layer

pytestmark = pytest.mark.system
ARM = Platform.parse("linux/arm64")


def run_on_arm(folder: Path, *modes: str) -> str:
    plain = gzip.decompress(fixture("alpine/alpine-minirootfs-3.20.3-aarch64.tar.gz").read_bytes())
    image = make_image([make_layer(plain)], platform="linux/arm64")
    state = llb.oci_layout("client/image", image.descriptor.digest, store="it").run(
        ["/bin/sh", "-c", "uname -m > /out; /sbin/apk info -v | grep ^busybox-1 >> /out; chown 3:4 /out; sync"],
        env={"PATH": "/bin"}, network=llb.Network.NONE, name="on arm",
    )  # fmt: skip
    with open_worker(folder, modes=modes, images={}) as worker:
        definition = state.root.marshal(ARM)
        with worker.solve(definition, Inputs(images={"it": MemorySource(image)}), Recorder()) as result:
            entry = result.filesystem.lookup("out")
            assert entry is not None
            assert (entry.uid, entry.gid) == (3, 4)
            return result.filesystem.read("out", limit=1000).decode()


def _need_emulator() -> None:
    if platforms.native_platform().architecture == "arm64":
        pytest.skip("this is an arm64 machine")
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-user-static is not installed")


def test_a_user_namespace_has_emulators_of_its_own(tmp_path: Path) -> None:
    _need_emulator()
    modes: Sequence[str] = ["all"] if os.geteuid() == 0 else []
    with open_worker(tmp_path / "asked", modes=modes, images={}) as worker:
        if ARM not in worker.capabilities().platforms and not any(
            one.architecture == "arm64" for one in worker.capabilities().platforms
        ):
            pytest.skip("this kernel has no binfmt_misc for user namespaces")

    assert run_on_arm(tmp_path / "worker", *modes).startswith("aarch64\nbusybox-1.")


def test_root_takes_a_user_namespace_for_another_architecture(tmp_path: Path) -> None:
    _need_emulator()
    if os.geteuid() != 0:
        pytest.skip("this is about root")
    with open_worker(tmp_path / "asked", images={}) as worker:
        found = worker.capabilities()
        assert found.name == "worker (root)"
        if not any(one.architecture == "arm64" for one in found.platforms):
            pytest.skip("this kernel has no binfmt_misc for user namespaces")

    assert run_on_arm(tmp_path / "worker").startswith("aarch64\n")
    assert not list(Path("/proc/sys/fs/binfmt_misc").glob("copacetic-*")), "something was registered for everybody"


def test_without_an_emulator_another_architecture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "find_emulators", dict)
    monkeypatch.setattr("copacetic.worker.agent.find_emulators", dict)
    monkeypatch.setattr("copacetic.worker.solver.find_emulators", dict)
    if platforms.can_run(ARM):
        pytest.skip("this machine runs arm64")

    with pytest.raises(SolverError, match=r"linux/arm64 can't be run on this") as caught:
        run_on_arm(tmp_path)

    assert "qemu-user-static" in str(caught.value.hint)
    assert "unpack" in str(caught.value.hint)
