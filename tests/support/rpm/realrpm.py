# SPDX-License-Identifier: Apache-2.0
"""Debian's rpm as the judge, with nothing of the host's own configuration."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def run_rpm(
    *arguments: str | Path, dbpath: Path | None = None, program: str = "rpm"
) -> subprocess.CompletedProcess[str]:
    """Run rpm; skips the test where there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program}")
    where = ["--dbpath", str(dbpath)] if dbpath is not None else []
    return subprocess.run(
        [found, *where, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
    )


def query_packages(packages: Sequence[Path], form: str) -> list[str]:
    """Return what rpm prints about each package file that it can read."""
    result = run_rpm("-qp", "--nosignature", "--nodigest", "--qf", form, *packages)
    return result.stdout.splitlines()
