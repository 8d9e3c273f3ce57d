# SPDX-License-Identifier: Apache-2.0
"""
What Go's archive/tar, with which containerd reads layers, sees in an archive.

The program needs no module and is built in seconds. Skips the test where Go is missing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from demo.roots import CACHE, locked

SOURCE = Path(__file__).with_name("gotar.go")
_USUAL_PLACE = "/usr/local/go/bin/go"


def read_with_go(archives: list[bytes]) -> list[list[list[Any]] | None]:
    """Return, for each archive, what each entry is, or None for one that it refuses."""
    request = b"".join(b"%d\n%s" % (len(data), data) for data in archives)
    answer = subprocess.run([_program()], input=request, capture_output=True, check=True, timeout=60).stdout
    return [json.loads(line) for line in answer.splitlines()]


@functools.cache
def _program() -> Path:
    go = shutil.which("go") or (_USUAL_PLACE if Path(_USUAL_PLACE).exists() else None)
    if go is None:
        pytest.skip("Go is not installed")
    target = CACHE.parent / "gotar" / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    with locked(target):
        program = target / "gotar"
        if not program.exists():
            environment = os.environ | {"GOFLAGS": "", "CGO_ENABLED": "0", "GO111MODULE": "off"}
            environment.setdefault("GOCACHE", str(CACHE.parent / "go-build"))
            command = [go, "build", "-trimpath", "-o", str(program), str(SOURCE)]
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    return program
