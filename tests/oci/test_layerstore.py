# SPDX-License-Identifier: Apache-2.0
"""What is remembered of layers decides nothing that reading them wouldn't."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from copacetic.budget import Slots
from copacetic.cache import Cache
from copacetic.errors import CorruptLayerError, HostileLayerError, IntegrityError
from copacetic.oci import Digest
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerstore import INDEX_VERSION, LayerStore
from copacetic.oci.layout import LayoutSource
from copacetic.progress import Silent
from support.image.images import Layer, describe, make_image, make_layer, write_layout
from support.image.rawtar import END, header, pax
from support.value.replacing import replace


@pytest.fixture
def honest(tmp_path: Path) -> Layer:
    """A layer that is in the cache."""
    layer = make_layer({"a": "HONEST"})
    assert look(tmp_path, [layer]).read("a", limit=9) == b"HONEST"
    return layer


def look(tmp_path: Path, layers: list[Layer], diff_ids: list[Digest] | None = None) -> LayeredFilesystem:
    """Open an image of these layers with a cache that is kept."""
    layout = tmp_path / "layout"
    write_layout(layout, {"1": make_image(layers)})
    store = LayerStore(Cache(tmp_path / "cache"), ())
    descriptors = [layer.descriptor for layer in layers]
    claimed = diff_ids or [layer.diff_id for layer in layers]
    return store.open(LayoutSource(layout, "1"), descriptors, claimed, transfers=Slots("test", 2), progress=Silent())


def test_another_layer_under_a_known_diff_id_is_as_corrupt_as_with_an_empty_cache(
    tmp_path: Path, honest: Layer
) -> None:
    other = make_layer({"a": "OTHER"})

    for cache in (tmp_path / "empty", tmp_path):
        with pytest.raises(CorruptLayerError, match=f"{other.descriptor.digest} is not the {honest.diff_id}"):
            look(cache, [other], [honest.diff_id])
    assert look(tmp_path, [other]).read("a", limit=9) == b"OTHER"


def test_two_layers_of_one_image_may_not_share_a_diff_id(tmp_path: Path, honest: Layer) -> None:
    other = make_layer({"a": "OTHER"})

    for layers in ([honest, other], [other, honest]):
        for cache in (tmp_path / "empty", tmp_path):
            with pytest.raises(CorruptLayerError, match="is not the"):
                look(cache, layers, [honest.diff_id, honest.diff_id])


def test_the_same_layer_compressed_otherwise_is_one_that_nobody_looked_into(tmp_path: Path, honest: Layer) -> None:
    blob = gzip.compress(honest.plain, 1, mtime=7)
    again = Layer(describe(blob, honest.descriptor.media_type), blob, honest.plain)

    assert look(tmp_path, [honest, again]).read("a", limit=9) == b"HONEST"


def test_a_wrong_size_is_noticed_with_a_warm_cache_too(tmp_path: Path, honest: Layer) -> None:
    lying = replace(honest, descriptor=replace(honest.descriptor, size=honest.descriptor.size + 1))

    for cache in (tmp_path / "empty", tmp_path):
        with pytest.raises(IntegrityError):
            look(cache, [lying])


def test_a_repeated_layer_is_read_once(tmp_path: Path) -> None:
    layer = make_layer({"a": "1"})

    assert look(tmp_path, [layer, layer, layer]).lookup("a") is not None
    folder = tmp_path / f"cache/layers.v{INDEX_VERSION}"
    assert len([path for path in folder.iterdir() if path.is_file()]) == 1


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/b/.wh...", "a/.wh.../"])
def test_a_whiteout_that_leaves_its_folder_is_hostile(tmp_path: Path, name: str) -> None:
    with pytest.raises(HostileLayerError, match="whiteout of no name"):
        look(tmp_path, [make_layer(header(name) + END)])


COSTLY = pax({"path": ("n" * 200 + "/") * 20}) + header("x")
"""Each of these counts about 9,000 bytes."""


def test_a_few_kilobytes_may_not_hold_any_number_of_names(tmp_path: Path) -> None:
    with pytest.raises(HostileLayerError, match="too many entries, names and headers for its size"):
        look(tmp_path, [make_layer(COSTLY * 9_000 + END, compression="zstd")])


def test_what_layers_hold_is_counted_together_whatever_the_cache_holds(tmp_path: Path) -> None:
    layers = [make_layer(COSTLY * 4_000 + header(name) + END, compression="zstd") for name in ("a", "b")]
    for layer in layers:
        look(tmp_path, [layer])

    for cache in (tmp_path / "empty", tmp_path):
        with pytest.raises(HostileLayerError, match="hold too much for their"):
            look(cache, layers)


def test_a_layer_that_is_there_again_and_again_costs_again(tmp_path: Path) -> None:
    layer = make_layer(COSTLY * 50 + END)

    with pytest.raises(HostileLayerError, match="hold too much for their"):
        look(tmp_path, [layer] * 150)
