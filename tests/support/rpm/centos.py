# SPDX-License-Identifier: Apache-2.0
"""CentOS 7 with its own rpm 4.11 and Berkeley DB, which can be run here, and 32 real updates of it."""

from __future__ import annotations

import functools
import gzip
import lzma
import shutil
from collections.abc import Sequence
from pathlib import Path

from copacetic.oci.manifest import OCI_LAYER
from support.deb.oracle import Node, extract, read_tree, run_in
from support.image.images import Layer, TarItem, describe, fixture, make_image, make_layer, tar_file, write_layout

ROOT = "el7/centos7-httpd-rpmdb-bdb.tar.xz"
UPDATES = "el7/updates"
HELD_BACK = "glibc"
"""Its own other half is in none of the repositories."""


def centos_root(target: Path) -> Path:
    """Unpack it."""
    return extract(fixture(ROOT), target)


def centos_image(layout: Path, *, without: Sequence[str] = ()) -> str:
    """Write it as an image, and return its location; `without` are paths that a last layer removes."""
    layers = [_layer()]
    if without:
        gone: list[TarItem] = [tar_file("/.wh.".join(path.rsplit("/", 1))) for path in without]
        layers.append(make_layer(gone))
    write_layout(layout, {"base": make_image(layers)})
    return f"oci:{layout}:base"


@functools.cache
def _layer() -> Layer:
    plain = lzma.decompress(fixture(ROOT).read_bytes())
    packed = gzip.compress(plain, 1, mtime=0)
    return Layer(describe(packed, f"{OCI_LAYER}+gzip"), packed, plain)


def updates() -> list[Path]:
    """Return the packages that can be updated."""
    return sorted(path for path in fixture(UPDATES).glob("*.rpm") if not path.name.startswith(f"{HELD_BACK}-"))


def upgrade(root: Path) -> None:
    """Let a root's own rpm install all of them."""
    folder = root / "run/updates"
    folder.mkdir()
    for path in updates():
        shutil.copyfile(path, folder / path.name)
    run_in(root, "rpm -U --nosignature --nodeps /run/updates/*.rpm")
    shutil.rmtree(folder)


def rpm_in(root: Path, arguments: str) -> list[str]:
    """Let a root's own rpm act on it or say something about it."""
    return run_in(root, f"rpm {arguments}", check=False).stdout.splitlines()


def snapshot(root: Path) -> dict[str, Node]:
    """Return what counts of a tree: rpm's tables have the time of their run in them, and its memory of them is no part."""
    beside = ("dev/", "proc/", "var/lib/rpm/")
    return {path: node for path, node in read_tree(root).items() if not path.startswith(beside)}
