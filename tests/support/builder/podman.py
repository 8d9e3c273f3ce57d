# SPDX-License-Identifier: Apache-2.0
"""
A real podman with storage of its own, and a container with buildctl that reaches a real buildkitd.

    with podman_container(tmp_path, daemon.socket) as container:
        ...  # os.environ tells podman where; container is the name
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.builder.gotools import go_programs

NAME = "buildkitd"


@contextmanager
def podman_container(folder: Path, socket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """
    Run a container whose buildctl finds the daemon, and yield its name; podman's environment is set for the test.

    Skips the test where podman is absent or can't run containers.
    """
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    if os.geteuid() != 0:
        pytest.skip("a storage of its own needs root here")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    # Limits as a container may set them without the capability to raise any.
    limits = 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]'
    runtime = "runc" if shutil.which("runc") else "crun"
    (folder / "containers.conf").write_text(
        f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "{runtime}"\n'
        f'tmp_dir = "{folder}/tmp"\n[containers]\n{limits}\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
    monkeypatch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
    _podman("import", "--change", "ENV PATH=/bin", str(_write_root(folder)), "localhost/buildctl:1")
    # Its main process only has to stay: one that waits for input does.
    volume = f"{socket.parent}:/builder"
    options = ("-d", "-i", "--name", NAME, "--network", "none", "--volume", volume)
    environment = ("--env", f"BUILDKIT_HOST=unix:///builder/{socket.name}")
    try:
        _podman("run", *options, *environment, "localhost/buildctl:1", "buildctl", "dial-stdio")
        yield NAME
    finally:
        subprocess.run(["podman", "rm", "-f", "-t", "0", NAME], capture_output=True, check=False)


def _write_root(folder: Path) -> Path:
    path = folder / "root.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(go_programs() / "buildctl", "bin/buildctl")
        for name in ("builder", "tmp", "etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return path


def _podman(*arguments: str) -> None:
    result = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"podman can't run containers here: {result.stderr[-500:]}")
