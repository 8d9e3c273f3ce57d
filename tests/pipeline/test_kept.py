# SPDX-License-Identifier: Apache-2.0
"""A layer that was proven is taken again for the same request on an equal base, and only as long as it is what it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.oci import Digest
from copacetic.oci.layerstore import KnownLayer
from copacetic.oci.manifest import OCI_LAYER
from copacetic.pipeline.apply.kept import KeptLayers
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, NewLayer
from copacetic.pipeline.prove.readback import ReadBack
from copacetic.updates import FetchedPackage, PlannedUpdate
from support.image.images import make_layer
from support.image.trees import tree
from support.value.replacing import replace
from support.value.values import candidate

MADE = make_layer({"opt/app": "2"}, compression="none")
FS = tree({"opt/app": "1", "opt/other": "x"})


def packages(name: str = "app", sha256: str = "ab" * 32) -> tuple[FetchedPackage, ...]:
    update = PlannedUpdate(installed=None, candidate=replace(candidate(name, "2"), sha256=sha256))
    return (FetchedPackage(update=update, path=Path(name)),)


REQUEST = LayerRequest(packages={"deb": packages()}, epoch=7, compression="none", media_type=OCI_LAYER)


@pytest.fixture
def kept(tmp_path: Path) -> KeptLayers:
    """With one layer that read a file of the image."""
    path = tmp_path / "layer"
    path.write_bytes(MADE.blob)
    layer = NewLayer(path=path, descriptor=MADE.descriptor, diff_id=MADE.diff_id, files=1)
    layers = KeptLayers(Cache(tmp_path / "cache"))
    made = ComposedLayer(layer=layer, notes=("noted",), reads=frozenset({"opt/app"}), proven=known(layer))
    layers.keep(REQUEST, FS, made)
    path.unlink()
    return layers


def known(layer: NewLayer) -> KnownLayer:
    return ReadBack.of(layer, ["md5"]).known


def test_the_same_request_gets_the_same_layer_with_its_notes(kept: KeptLayers) -> None:
    found = kept.find(REQUEST, tree({"opt/app": "1", "opt/other": "y"}))

    assert found is not None
    assert found.layer.path.read_bytes() == MADE.blob
    assert (found.layer.descriptor, found.layer.diff_id, found.layer.files) == (MADE.descriptor, MADE.diff_id, 1)
    assert found.notes == ("noted",)
    assert found.proven is not None
    assert [row.size for row in found.proven.index.rows] == [1]


@pytest.mark.parametrize("image", [{"opt/app": "0"}, {"opt/other": "x"}], ids=["changed", "gone"])
def test_a_base_in_which_something_read_is_another_gets_none(kept: KeptLayers, image: Mapping[str, str]) -> None:
    assert kept.find(REQUEST, tree(image)) is None


@pytest.mark.parametrize(
    "other",
    [
        {"epoch": 8},
        {"compression": "gzip"},
        {"media_type": "application/vnd.docker.image.rootfs.diff.tar"},
        {"base": (Digest.of(b"diff"),)},
        {"packages": {"deb": packages("other")}},
        {"packages": {"deb": packages(sha256="cd" * 32)}},
        {"packages": {"deb": packages(), "apk": packages("more")}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_request_gets_none(kept: KeptLayers, other: Mapping[str, object]) -> None:
    assert kept.find(replace(REQUEST, **other), FS) is None


def test_the_order_of_packages_counts() -> None:
    one, other = packages("a"), packages("b")

    keys = {replace(REQUEST, packages={"apk": both}).key for both in ((*one, *other), (*other, *one))}

    assert len(keys) == 2


def test_a_file_that_was_changed_in_the_cache_is_not_taken(kept: KeptLayers, tmp_path: Path) -> None:
    (stored,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.read_bytes() == MADE.blob]
    stored.chmod(0o644)
    stored.write_bytes(MADE.blob.replace(b"2", b"3", 1))

    assert kept.find(REQUEST, FS) is None
    stored.unlink()
    assert kept.find(REQUEST, FS) is None
