# SPDX-License-Identifier: Apache-2.0
"""
A real OpenSSH server on loopback, with keys and configuration of its own; the client program is the real one, too.

    with ssh_server(tmp_path, programs=bin_folder) as server:
        monkeypatch.setenv("PATH", server.client_path)   # `ssh` there knows key and host key, and nothing of a user's
        ...  # ssh://root@127.0.0.1:PORT
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.server.ports import find_port, wait_for_listener


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer:
    """A running server."""

    port: int
    user: str
    client_path: str
    """For PATH: its `ssh` is the system's, told to use the configuration made here."""
    configuration: Path
    """Of the client; a test may spoil it."""


@contextmanager
def ssh_server(folder: Path, *, programs: Path) -> Iterator[SshServer]:
    """Run a server whose sessions find programs in that folder first. Skips the test where OpenSSH is absent."""
    daemon, client = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"), shutil.which("ssh")
    if daemon is None or client is None:
        pytest.skip("openssh-server and openssh-client are not installed")
    if os.getuid() != 0:
        pytest.skip("a server with a configuration of its own needs root")
    home = folder / "sshd"
    home.mkdir(parents=True, mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    for _ in range(3):
        port = find_port()
        _configure_server(home, port, programs)
        with (home / "log").open("wb") as log:
            process = subprocess.Popen([daemon, "-D", "-e", "-f", home / "sshd_config"], stdout=log, stderr=log)
        try:
            if wait_for_listener(process, port):
                path = _configure_client(home, port, client)
                yield SshServer(port=port, user=getpass.getuser(), client_path=path, configuration=home / "ssh_config")
                return
        finally:
            process.terminate()
            process.wait()
    pytest.fail("sshd does not start:\n" + (home / "log").read_text()[-2_000:])


def _configure_server(home: Path, port: int, programs: Path) -> None:
    Path("/run/sshd").mkdir(exist_ok=True)  # where it separates its privileges
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/user.pub\n"
        "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n"
        f"SetEnv PATH={programs}:/usr/local/bin:/usr/bin:/bin\n"
    )


def _configure_client(home: Path, port: int, client: str) -> str:
    host_key = (home / "host.pub").read_text().split()
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    (home / "ssh_config").write_text(
        f"IdentityFile {home}/user\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {home}/known_hosts\n"
        "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
    )
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {client} -F {home}/ssh_config "$@"\n')
    (folder / "ssh").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
