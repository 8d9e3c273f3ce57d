# SPDX-License-Identifier: Apache-2.0
"""Workers for tests: with images from memory, and with nothing left when they are closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.errors import NotFoundError, UnsupportedBuilderError
from copacetic.oci.transport import Source
from copacetic.worker import WorkerSettings, WorkerSolver
from copacetic.worker.execution import Limits
from support.images import Image, MemorySource


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
