# SPDX-License-Identifier: Apache-2.0
"""
A real BuildKit daemon of our own: its root, its socket, its configuration, in mount and pid namespaces of its own.

    with buildkitd(mirrors={"docker.io": host}) as daemon:
        ...  # daemon.path is its socket's

Whatever it mounts or runs ends with its namespaces, even when it is killed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.builder.gotools import go_programs
from support.builder.processes import command_of, descendants_of, first_child_of, is_running, stop_inside

_START_LIMIT = 60.0
_STOP_LIMIT = 20.0


class Connected(socket.socket):
    """A socket that wakes up whoever still reads from it when it is closed, as a byte stream must."""

    def close(self) -> None:
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        super().close()


@dataclass(frozen=True, kw_only=True)
class Buildkitd:
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def path(self) -> Path:
        """The socket's."""
        return self.folder / "socket"

    @property
    def address(self) -> str:
        return f"unix://{self.path}"

    def connect(self) -> Connected:
        """Return a new connection, as a builder's address gives one."""
        connection = Connected(socket.AF_UNIX)
        connection.settimeout(10)
        try:
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            raise
        connection.settimeout(None)
        return connection

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        """Kill it as a machine that loses power would, with all that it runs, and wait until its socket is nobody's."""
        inside = first_child_of(self.process.pid)
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + _STOP_LIMIT
        while inside is not None and is_running(inside):
            assert time.monotonic() < deadline, f"process {inside} outlives a kill"
            time.sleep(0.01)

    def children(self) -> list[list[str]]:
        """Return the command lines of the processes that run inside, the daemon's own left out."""
        own = first_child_of(self.process.pid)
        inside = [command_of(pid) for pid in descendants_of(own)] if own else []
        return [words for words in inside if words]


@contextmanager
def buildkitd(
    *,
    mirrors: Mapping[str, str] | None = None,
    registries: Sequence[str] = (),
    snapshotter: str = "overlayfs",
    options: Sequence[str] = (),
    disk: str = "",
) -> Iterator[Buildkitd]:
    """
    Start a daemon, and yield it once it answers.

    `mirrors` says which loopback registry serves the names of another one, `registries` which further ones speak
    plain HTTP; `options` are further arguments, and `disk` is the size of its disk, as in `64m`. Skips the test where root, runc or Go is missing.
    """
    if os.geteuid() != 0:
        pytest.skip("buildkitd needs root here")
    for program in ("runc", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    program_folder = go_programs()
    folder = Path(tempfile.mkdtemp(prefix="copa-bk-"))  # a socket's path has at most 107 characters
    try:
        config = folder / "buildkitd.toml"
        config.write_text(_configure(folder, mirrors or {}, registries, snapshotter))
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if disk:
            (folder / "root").mkdir()
            command += ["sh", "-c", f'mount -t tmpfs -o size={disk} tmpfs "$0" && exec "$@"', f"{folder}/root"]
        command += [
            str(program_folder / "buildkitd"),
            "--config",
            str(config),
            "--addr",
            f"unix://{folder}/socket",
            *options,
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
        daemon = Buildkitd(folder=folder, process=process)
        try:
            _wait(daemon)
            yield daemon
        finally:
            stop_inside(process, limit=_STOP_LIMIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, mirrors: Mapping[str, str], registries: Sequence[str], snapshotter: str) -> str:
    lines = [f'root = "{folder}/root"']
    lines += ["[history]", "maxEntries = 5", "[worker.containerd]", "enabled = false"]
    lines += ["[worker.oci]", "enabled = true", f'snapshotter = "{snapshotter}"', 'networkMode = "host"', "gc = false"]
    for name, host in mirrors.items():
        lines += [f'[registry."{name}"]', f'mirrors = ["{host}"]']
    for host in sorted({*mirrors.values(), *registries}):
        lines += [f'[registry."{host}"]', "http = true"]
    return "\n".join(lines) + "\n"


def _wait(daemon: Buildkitd) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline and daemon.process.poll() is None:
        try:
            daemon.connect().close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("buildkitd does not start:\n" + daemon.log()[-3_000:])
