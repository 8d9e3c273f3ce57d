# SPDX-License-Identifier: Apache-2.0
"""
A real registry on loopback: Debian's docker-registry, one process and one folder per test.

    with docker_registry(tmp_path) as host:
        ...  # host is "127.0.0.1:PORT"
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.server.certificate import Certificate
from support.server.ports import find_port, wait_for_listener

USER = "tester"
PASSWORD = "pass:word-1"
HTPASSWD = f"{USER}:$2y$05$DrpFd.2IWQfP1jwXmBpj6OrIOUgYL6glS8ZpGJhVZpn7a5dPIfTkS\n"
"""For `docker_registry(htpasswd=…)`: `USER` with `PASSWORD`."""


@contextmanager
def docker_registry(
    folder: Path,
    *,
    htpasswd: str = "",
    token: Mapping[str, str] | None = None,
    tls: Certificate | None = None,
    name: str = "registry",
) -> Iterator[str]:
    """
    Run a registry, and yield `127.0.0.1:PORT` once it listens.

    `htpasswd` is the content of such a file (see `HTPASSWD`), `token` what the registry is to know of a token server
    (see `support.server.tokens`), `tls` makes it speak HTTPS only, and `name`
    keeps several in one folder apart. Skips the test where docker-registry is absent.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    home = folder / name
    home.mkdir(parents=True)
    for _ in range(3):
        port = find_port()
        config = home / "config.yml"
        config.write_text(json.dumps(_make_config(home, port, htpasswd, token, tls)))  # JSON is YAML, too
        with (home / "log").open("wb") as log:
            process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log, cwd=home)
        try:
            if wait_for_listener(process, port):
                yield f"127.0.0.1:{port}"
                return
        finally:
            process.kill()
            process.wait()
    pytest.fail("docker-registry does not start:\n" + (home / "log").read_text()[-2_000:])


def _make_config(
    home: Path, port: int, htpasswd: str, token: Mapping[str, str] | None, tls: Certificate | None
) -> dict[str, object]:
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": "only for tests"}
    if tls is not None:
        http["tls"] = {"certificate": str(tls.file), "key": str(tls.key)}
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(home / "data")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http,
    }
    if htpasswd:
        (home / "htpasswd").write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(home / "htpasswd")}}
    if token is not None:
        config["auth"] = {"token": dict(token)}
    return config
