# SPDX-License-Identifier: Apache-2.0
"""buildah as the peer, each time from an empty storage."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measure import Sample, run


def run_buildah(work: Path, script: Callable[[str, Path], str]) -> Sample:
    """Run what `script` makes of buildah's command line and a folder of its own; what it leaves isn't measured."""
    folder = Path(tempfile.mkdtemp(dir=work))
    program = f"buildah --root {folder}/root --runroot {folder}/run --storage-driver overlay"
    sample = run(["sh", "-c", script(program, folder)])
    subprocess.run(["sh", "-c", f"{program} rm --all; {program} rmi --all --force"], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
    return sample
