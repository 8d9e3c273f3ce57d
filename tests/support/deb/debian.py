# SPDX-License-Identifier: Apache-2.0
"""Real Debian roots as images, for tests that skip where the machine can't make them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from demo import roots

from copacetic.oci.manifest import OCI_LAYER
from support.image.images import Layer, describe, make_image, write_layout


def need(*programs: str, root: bool = False) -> None:
    """Skip the test where the machine lacks a program or the right to use it."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if root and os.geteuid() != 0:
        pytest.skip("needs root")


def sources(suite: str) -> str:
    """Return a sources.list of a suite at this machine's mirrors."""
    try:
        return roots.sources(suite)
    except roots.NotPossibleError as error:
        pytest.skip(str(error))


def build_root(suite: str, *, packages: Sequence[str] = (), name: str = "", age: bool = True) -> Path:
    """Return the tar of a minbase root of a suite, with pending updates if it is aged."""
    need("mmdebstrap", "unshare", root=True)
    try:
        return roots.build_root(suite, packages=packages, name=name, age=age)
    except roots.NotPossibleError as error:
        pytest.skip(str(error))


def layout_of(tars: Sequence[Path], layout: Path, *, architecture: str = "amd64") -> str:
    """Write an image of one gzip layer for each tar into an OCI layout and return its location."""
    layers = []
    for tar in tars:
        blob = roots.compress(tar).read_bytes()
        layers.append(Layer(describe(blob, f"{OCI_LAYER}+gzip"), blob, tar.read_bytes()))
    write_layout(layout, {"base": make_image(layers, platform=f"linux/{architecture}")})
    return f"oci:{layout}:base"
