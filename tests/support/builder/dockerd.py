# SPDX-License-Identifier: Apache-2.0
"""
A real Docker engine of Debian's packages, in a root, mount and pid namespaces of its own.

    with dockerd() as engine:
        ...  # engine.path is its socket; engine.host is what DOCKER_HOST would be

With `containerd_store=False` it keeps images as engines before version 29 do by default, and can't merge and diff.
Nothing of the host's network is touched. Whatever it mounts or runs ends with its namespaces, even when it is killed.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from demo.roots import CACHE, locked

from support.builder.processes import command_of, descendants_of, first_child_of, stop_inside
from support.deb.debian import build_root, need

SUITE = "trixie"
_PACKAGES = ("ca-certificates", "containerd", "docker-cli", "docker.io", "iptables", "runc")
_START_LIMIT = 90.0
_STOP_LIMIT = 20.0

_ENTER = r"""
set -e
cd "$1"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" root
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mount -t proc proc root/proc
for name in run tmp; do mount -t tmpfs tmpfs "root/$name"; done
mkdir -p root/shared root/data
for name in shared data; do mount --bind "$name" "root/$name"; done
cd root
pivot_root . mnt
umount -l /mnt
exec bash /shared/init
"""
_INIT = r"""
containerd --config /shared/containerd.toml >/shared/containerd.log 2>&1 & store=$!
while [ ! -S /run/containerd/containerd.sock ]; do kill -0 $store || exit 1; sleep 0.05; done
dockerd --config-file /shared/daemon.json >/shared/dockerd.log 2>&1 & engine=$!
trap 'kill $engine; wait $engine; kill $store; wait $store; exit 0' TERM
wait $engine
"""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, kw_only=True)
class Dockerd:
    """A running engine."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def shared(self) -> Path:
        """A folder of the host that the engine sees as `/shared`."""
        return self.folder / "shared"

    @property
    def path(self) -> Path:
        return self.shared / "docker.sock"

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def api(self, method: str, path: str, body: bytes | Mapping[str, Any] | None = None) -> Any:
        """Call the engine's API, and return the document that comes back."""
        headers = {} if body is None or isinstance(body, bytes) else {"Content-Type": "application/json"}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = _Connection(self.path)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        assert response.status < 400, answer
        return json.loads(answer) if answer.startswith((b"{", b"[")) and b"\n{" not in answer else None

    def load(self, tar: bytes, name: str) -> None:
        """Make an image of one layer."""
        repository, _, tag = name.partition(":")
        self.api("POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", tar)

    def create(
        self,
        name: str,
        image: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        start: bool = True,
    ) -> None:
        """Make a container without a network that sees `/shared`; its standard input stays open."""
        document = {
            "Image": image,
            "Cmd": list(command),
            "Env": [f"{key}={value}" for key, value in (environment or {}).items()],
            "OpenStdin": True,
            "HostConfig": {"NetworkMode": "none", "Binds": ["/shared:/shared"]},
        }
        self.api("POST", f"/containers/create?name={name}", document)
        if start:
            self.api("POST", f"/containers/{name}/start")

    def remove_containers(self) -> None:
        """Remove all: their control groups are the host's, and would stay."""
        with suppress(OSError, AssertionError):
            for container in self.api("GET", "/containers/json?all=true") or []:
                self.api("DELETE", f"/containers/{container['Id']}?force=true")

    def processes(self) -> list[list[str]]:
        """Return the command lines of all that runs beside the engine, containers included."""
        inside = [command_of(pid) for pid in descendants_of(self.process.pid)]
        return [words for words in inside if words]

    def program(self, folder: Path) -> None:
        """Write a `docker` into a folder: the engine's own client, run beside the engine."""
        inside = first_child_of(self.process.pid)
        script = folder / "docker"
        script.write_text(
            f'#!/bin/sh\nexec nsenter --target {inside} --mount --pid --root --wd=/ /usr/bin/docker "$@"\n'
        )
        script.chmod(0o755)


@contextmanager
def dockerd(
    *,
    containerd_store: bool = True,
    configuration: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Iterator[Dockerd]:
    """
    Start an engine, and yield it once it answers.

    `configuration` goes into its daemon.json, where `hosts` are further ones, and `files` into `/shared`. Skips the
    test where root or a program is missing.
    """
    need("mmdebstrap", "unshare", "nsenter", root=True)
    lower = _lower()
    folder = Path(tempfile.mkdtemp(prefix="copa-dk-"))  # a socket's path has at most 107 characters
    try:
        for name in ("root", "upper", "work", "shared", "data"):
            (folder / name).mkdir()
        for name, content in (files or {}).items():
            (folder / "shared" / name).write_bytes(content)
        _configure(folder / "shared", containerd_store, configuration or {})
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=SIGKILL"]
        command += ["bash", "-c", _ENTER, "enter", str(folder), str(lower)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        engine = Dockerd(folder=folder, process=process)
        try:
            _wait(engine)
            yield engine
        finally:
            engine.remove_containers()
            stop_inside(process, limit=_STOP_LIMIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lower() -> Path:
    """Return the unpacked root with the engine, made once and then only read."""
    tar = build_root(SUITE, packages=_PACKAGES, name=f"dockerd-{SUITE}", age=False)
    target = CACHE.parent / "dockerd" / tar.stem
    with locked(target):
        if not (target / "done").exists():
            shutil.rmtree(target, ignore_errors=True)
            (target / "root").mkdir(parents=True)
            with tarfile.open(tar) as archive:
                archive.extractall(target / "root", filter="fully_trusted", numeric_owner=True)
            (target / "done").touch()
    return target / "root"


def _configure(shared: Path, containerd_store: bool, configuration: Mapping[str, Any]) -> None:
    daemon = {
        "features": {"containerd-snapshotter": containerd_store},
        "data-root": "/data/docker",
        "containerd": "/run/containerd/containerd.sock",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        **configuration,
        "hosts": ["unix:///shared/docker.sock", *configuration.get("hosts", ())],
    }
    (shared / "daemon.json").write_text(json.dumps(daemon))
    (shared / "containerd.toml").write_text(
        'version = 2\nroot = "/data/containerd"\nstate = "/run/containerd"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    )
    (shared / "init").write_text(_INIT)


def _wait(engine: Dockerd) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline and engine.process.poll() is None:
        try:
            engine.api("GET", "/version")
        except OSError:
            time.sleep(0.05)
        else:
            return
    logs = [engine.folder / "log", engine.shared / "containerd.log", engine.shared / "dockerd.log"]
    text = "\n".join(path.read_text(errors="replace")[-2_000:] for path in logs if path.exists())
    pytest.fail(f"dockerd does not start:\n{text}")
