# SPDX-License-Identifier: Apache-2.0
"""Workers for tests: with images from memory, and with nothing left when they are closed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from demo import roots

from copacetic.cache import Cache
from copacetic.errors import NotFoundError, UnsupportedBuilderError
from copacetic.oci.manifest import OCI_LAYER
from copacetic.oci.transport import Source
from copacetic.worker import WorkerSettings, WorkerSolver
from copacetic.worker.execution import Limits
from support.image.images import Image, Layer, MemorySource, describe, make_image


def debian_image(tar: Path) -> Image:
    """Return an image of one layer with a root's tar."""
    blob = roots.compress(tar).read_bytes()
    return make_image([Layer(describe(blob, f"{OCI_LAYER}+gzip"), blob, tar.read_bytes())])


@contextmanager
def open_worker(
    folder: Path,
    *,
    modes: Sequence[str] = (),
    images: Mapping[str, Image | Source] | None = None,
    limits: Limits | None = None,
) -> Iterator[WorkerSolver]:
    """
    Yield a worker that keeps its things in a folder and resolves these images. Skips where no mode works, and checks
    afterwards that no run and no mount is left.
    """

    def open_image(reference: str) -> Source:
        image = (images or {}).get(reference)
        if image is None:
            raise NotFoundError(f"{reference} is not there")
        return MemorySource(image, reference) if isinstance(image, Image) else image

    settings = WorkerSettings(
        cache=Cache(folder), modes=tuple(modes), open_image=open_image, limits=limits or Limits(seconds=120)
    )
    solver = WorkerSolver(settings)
    try:
        try:
            solver.capabilities()
        except UnsupportedBuilderError as error:
            pytest.skip(str(error))
        yield solver
    finally:
        solver.close()
    assert runs_in(folder) == []
    assert mounts_in(folder) == []


def runs_in(folder: Path) -> list[Path]:
    """Return what runs have left in a worker's folder."""
    return sorted(folder.glob("worker.v1/*/runs/*"))


def mounts_in(folder: Path) -> list[str]:
    """Return the mounts, in whatever namespace of this machine, that have to do with a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found += [line for line in path.read_text().splitlines() if str(folder) in line]
        except OSError:
            continue
    return found


@cache
def compile_c(source: str, **names: int) -> bytes:
    """Return a static program, for tries that no shell can make. Skips where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program")
        command = ["gcc", "-static", "-O1", "-s", "-x", "c", "-", "-o", str(program)]
        command += [f"-D{name}={value}" for name, value in names.items()]
        subprocess.run(command, input=source.encode(), check=True, capture_output=True)
        return program.read_bytes()
