# SPDX-License-Identifier: Apache-2.0
"""
What a solver gets from us: images by their digests, and directories of files.

Where a run was asked for, the image is on its way while the plan is still being made: nothing else is known so early.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

from copacetic import llb
from copacetic.errors import CopaError, storage_errors
from copacetic.llb.graph import SourceOp
from copacetic.llb.solver import Inputs
from copacetic.oci import Digest
from copacetic.oci.layerwriter import read_content
from copacetic.oci.transport import Source
from copacetic.pipeline.apply.solvelog import SolveLog
from copacetic.pipeline.open.image import PlatformImage, SourceImage
from copacetic.pkgmgr import Content
from copacetic.session import Session

__all__ = ["image_state", "stage", "warm_up"]

_SENT = "copacetic.invalid/image"
"""How a builder's messages call an image that it gets from us; a host is required."""


def image_state(source: Source, digest: Digest, *, pull_name: str, store: str) -> tuple[llb.State, dict[str, Source]]:
    """
    Name an image by its digest, and tell whose bytes go by which name in `Inputs.images`: a solver without a registry
    client takes a pulled one's from us, too. With an empty `pull_name` it is sent, in the store of the given name.
    """
    if pull_name:
        reference = f"{pull_name}@{digest}"
        return _named(llb.image(reference), f"fetch {source.name}"), {reference: source}
    return _named(llb.oci_layout(_SENT, digest, store=store), f"send {source.name}"), {store: source}


def _named(state: llb.State, name: str) -> llb.State:
    assert isinstance(state.vertex, SourceOp)
    return llb.State(replace(state.vertex, name=name))


@contextmanager
def warm_up(image: SourceImage, variant: PlatformImage, session: Session) -> Iterator[None]:
    """
    Load the image into the solver beside whatever is done in this context.

    What goes wrong here says nothing yet; the solve that needs the image will say it. Leaving the context by an
    exception leaves the loading to end with the solver.
    """
    thread = Thread(target=_load, args=(image, variant, session), name="copa-warm-up", daemon=True)
    thread.start()
    yield
    thread.join()


def _load(image: SourceImage, variant: PlatformImage, session: Session) -> None:
    pull_name = session.pull_name(image.access.location)
    state, images = image_state(image.source, variant.digest, pull_name=pull_name, store="image")
    inputs = Inputs(images=images, credentials=session.find_login)
    with suppress(CopaError):
        solver = session.open_solver()
        watched = session.progress.task(f"solve with {solver.capabilities().name}: the image")
        definition = state.marshal(variant.platform)
        with watched, SolveLog(session.progress) as log, solver.solve(definition, inputs, log) as result:
            result.filesystem.iterdir("")  # solvers fetch lazily


def stage(folder: Path, files: Mapping[str, Content]) -> Path:
    """Fill a directory that a builder may read; files of the cache are linked, not copied."""
    with storage_errors(f"can't prepare {folder} for the builder"):
        folder.mkdir()
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                _link(content, target)
                continue
            with target.open("xb") as file:
                for piece in (content,) if isinstance(content, bytes) else content:
                    file.write(read_content(piece))
    return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
