# SPDX-License-Identifier: Apache-2.0
"""What is kept of layers' files lies beside their indexes: read without the layer, and believed by its digest only."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copacetic.budget import Slots
from copacetic.cache import Cache
from copacetic.errors import HostileLayerError
from copacetic.keep import KeepRule, KeepRules
from copacetic.oci.contentpack import MemoryPack
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerindex import scan_layer
from copacetic.oci.layerstore import INDEX_VERSION, PACK_VERSION, KnownLayer, LayerStore
from copacetic.oci.layout import LayoutSource
from copacetic.progress import Silent
from support.image.images import Layer, make_image, make_layer, write_layout
from support.image.rawtar import END, header, member

ETC, ONE, OTHER = (KeepRules([KeepRule(f"{folder}/", 1000)]) for folder in ("etc", "one", "other"))


class Opened:
    """An image of these layers in a folder, with a cache that is kept."""

    def __init__(self, folder: Path, *layers: Mapping[str, bytes | str] | bytes) -> None:
        self.layers = [make_layer(layer) for layer in layers]
        self._folder = folder
        write_layout(folder / "layout", {"1": make_image(self.layers)})

    def view(self, *keep: KeepRules) -> LayeredFilesystem:
        store = LayerStore(Cache(self._folder / "cache"), keep)
        source = LayoutSource(self._folder / "layout", "1")
        descriptors, diff_ids = [one.descriptor for one in self.layers], [one.diff_id for one in self.layers]
        return store.open(source, descriptors, diff_ids, transfers=Slots("test", 2), progress=Silent())

    def lose(self, layer: Layer) -> None:
        """What needs this layer from now on fails."""
        (self._folder / "layout/blobs" / str(layer.descriptor.digest).replace(":", "/")).unlink()

    @property
    def indexes(self) -> list[Path]:
        return self._entries(f"layers.v{INDEX_VERSION}")

    @property
    def packs(self) -> list[Path]:
        return self._entries(f"layer-contents.v{PACK_VERSION}")

    def _entries(self, bucket: str) -> list[Path]:
        folder = self._folder / "cache" / bucket
        return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def state_of(paths: Sequence[Path]) -> dict[str, int]:
    """Which entries there are; one that is written anew is another."""
    return {path.name: path.stat().st_ino for path in paths}


def test_what_rules_select_is_read_without_the_layer_and_the_rest_from_it(tmp_path: Path) -> None:
    image = Opened(tmp_path, {"etc/a": "A", "one/b": "B", "rest": "C"}, {"etc/empty": "", "etc/copy": "A"})
    image.view(ETC, ONE)
    for layer in image.layers:
        image.lose(layer)

    fs = image.view(ETC, ONE)

    assert [fs.read(path, limit=9) for path in ("etc/a", "one/b", "etc/empty", "etc/copy")] == [b"A", b"B", b"", b"A"]
    with pytest.raises(Exception, match=str(image.layers[0].descriptor.digest)):
        fs.read("rest", limit=9)


def test_contents_are_no_part_of_the_index_that_every_opening_reads(tmp_path: Path) -> None:
    image = Opened(tmp_path, {"etc/big": "x" * 900})
    image.view(ETC)

    (index,) = image.indexes
    (pack,) = image.packs
    assert index.stat().st_size < 300
    assert pack.stat().st_size > 900


def test_new_rules_read_the_layers_again_that_have_something_for_them_and_no_others(tmp_path: Path) -> None:
    image = Opened(tmp_path, {"etc/a": "A"}, {"one/b": "B"}, {"one/long": "x" * 1001})
    image.view(ETC)
    image.lose(image.layers[0])
    image.lose(image.layers[2])
    before = state_of(image.packs)

    assert image.view(ETC, ONE).read("one/b", limit=9) == b"B"

    after = state_of(image.packs)
    assert before.items() <= after.items(), "nobody else's contents were made anew"
    image.lose(image.layers[1])
    assert image.view(ETC, ONE).read("one/b", limit=9) == b"B"
    assert state_of(image.packs) == after, "what there is nothing of is looked for once"


def test_whoever_has_other_rules_finds_the_index_and_what_was_kept_for_his(tmp_path: Path) -> None:
    image = Opened(tmp_path, {"etc/a": "A", "one/b": "B"})
    image.view(ETC, ONE)
    image.lose(image.layers[0])

    assert image.view(ONE).read("one/b", limit=9) == b"B"
    assert image.view(ETC, OTHER).read("etc/a", limit=9) == b"A"


def test_a_layer_that_was_looked_into_by_somebody_else_is_known(tmp_path: Path) -> None:
    image = Opened(tmp_path, {"etc/a": "A", "one/b": "B"})
    (layer,) = image.layers
    keep = [(ETC, MemoryPack()), (ONE, MemoryPack())]
    index = scan_layer(io.BytesIO(layer.blob), layer.descriptor, layer.diff_id, keep=keep)
    store = LayerStore(Cache(tmp_path / "cache"), (ETC, ONE))
    assert store.find(layer.descriptor, layer.diff_id) is None

    store.remember(layer.descriptor, KnownLayer(index, {rules.fingerprint: pack for rules, pack in keep}))
    image.lose(layer)

    fs = image.view(ETC, ONE)
    assert [fs.read(path, limit=9) for path in ("etc/a", "one/b")] == [b"A", b"B"]


@settings(max_examples=60)
@given(which=st.integers(0, 2), place=st.floats(0, 1, exclude_max=True), flip=st.integers(0, 255))
def test_a_damaged_cache_shows_nothing_else_than_the_layer_has(which: int, place: float, flip: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = Opened(Path(folder), {"etc/a": "A" * 90, "etc/b": "B" * 50, "one/c": "C"})
        image.view(ETC, ONE)
        victim = [*image.packs, *image.indexes][which]
        stored = bytearray(victim.read_bytes())
        at = int(place * len(stored))
        stored[at] ^= flip
        if not flip:
            del stored[at:]
        victim.write_bytes(stored)

        for _ in range(2):
            fs = image.view(ETC, ONE)
            assert [fs.read(path, limit=99) for path in ("etc/a", "etc/b", "one/c")] == [b"A" * 90, b"B" * 50, b"C"]
        image.lose(image.layers[0])
        fs = image.view(ETC, ONE)
        assert fs.read("etc/a", limit=99) + fs.read("etc/b", limit=99) == b"A" * 90 + b"B" * 50, "it was made anew"


def test_what_vanishes_while_an_image_is_open_is_read_from_its_layer(tmp_path: Path) -> None:
    image = Opened(tmp_path, {"etc/a": "A", "etc/b": "B"})
    fs = image.view(ETC)
    assert fs.read("etc/a", limit=9) == b"A"
    (pack,) = image.packs
    pack.unlink()

    assert fs.read("etc/b", limit=9) == b"B"


def test_a_layer_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    image = Opened(tmp_path, member("etc/a", b"A") + header("x/.wh..") + END)

    with pytest.raises(HostileLayerError):
        image.view(ETC)
    assert image.indexes == image.packs == []


def test_of_one_layer_only_so_much_is_kept_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.oci.layerindex._KEPT_TOTAL", 100)
    layer = make_layer({"etc/a": "A" * 60, "etc/b": "B" * 50, "etc/c": "C" * 40, "one/d": "D"})
    packs = [MemoryPack(), MemoryPack()]

    def kept(before: int) -> list[bytes]:
        for pack in packs:
            pack.clear()
        keep = list(zip((ETC, ONE), packs, strict=True))
        scan_layer(io.BytesIO(layer.blob), layer.descriptor, layer.diff_id, keep=keep, kept=before)
        return [content for pack in packs for content in pack.values()]

    assert kept(0) == [b"A" * 60, b"C" * 40]
    assert kept(55) == [b"C" * 40, b"D"], "what others keep of it counts"
    assert kept(200) == []


def test_of_several_entries_of_one_name_the_one_that_is_seen_is_read(tmp_path: Path) -> None:
    image = Opened(tmp_path, member("etc/a", b"first") + member("etc/a", b"second") + END)
    image.view(ETC)
    image.lose(image.layers[0])

    assert image.view(ETC).read("etc/a", limit=9) == b"second"
