# SPDX-License-Identifier: Apache-2.0
"""
BuildKit's programs, and one of our own that uses its Go client, built from the Go module in `tests/support/builder/buildkit`.

The first build takes minutes, and lands in `.cache/`; what is there is used as long as the module is the same.
Skips the test where Go is missing or can't build them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from demo.roots import CACHE, locked

MODULE = Path(__file__).with_name("buildkit")
_BUILD_LIMIT = 1_500.0
_USUAL_PLACE = "/usr/local/go/bin/go"


@functools.cache
def go_programs() -> Path:
    """Return the folder with `buildkitd`, `buildctl` and `graphs`."""
    go = shutil.which("go") or (_USUAL_PLACE if Path(_USUAL_PLACE).exists() else None)
    if go is None:
        pytest.skip("Go is not installed, so BuildKit can't be built")
    target = CACHE.parent / "buildkit" / _fingerprint()
    with locked(target):
        if not (target / "done").exists():
            _build(go, target)
    return target


def _fingerprint() -> str:
    state = hashlib.sha256()
    for path in sorted(path for path in MODULE.rglob("*") if path.is_file()):
        state.update(str(path.relative_to(MODULE)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:16]


def _build(go: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    # The tests' home folder is a new one each time; Go's caches are worth keeping.
    environment = os.environ | {"GOFLAGS": "-buildvcs=false -mod=readonly", "CGO_ENABLED": "0"}
    environment.setdefault("GOCACHE", str(CACHE.parent / "go-build"))
    environment.setdefault("GOMODCACHE", str(CACHE.parent / "go-modules"))
    for package in ("tool", "./graphs"):
        # What is called stays a call: a fifth less to compile, and the daemon has little to do.
        command = [go, "build", "-trimpath", "-gcflags=all=-l", "-o", f"{target}/", package]
        built = subprocess.run(
            command, cwd=MODULE, env=environment, capture_output=True, text=True, check=False, timeout=_BUILD_LIMIT
        )
        if built.returncode != 0:
            pytest.skip(f"BuildKit can't be built here: {built.stderr[-1_500:]}")
    (target / "done").touch()
