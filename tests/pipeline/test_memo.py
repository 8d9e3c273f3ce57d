# SPDX-License-Identifier: Apache-2.0
"""Results are taken again only where everything that was read for them is the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.recording import RecordingFilesystem, state_of
from copacetic.pipeline.open.memo import MAX_VARIANTS, Memo
from support.image.trees import tree


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(Cache(tmp_path / "cache"), "results", version=1)


def _image(folder: Path, **files: str) -> DirectoryFilesystem:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return DirectoryFilesystem(folder)


def _work(fs: DirectoryFilesystem) -> frozenset[str]:
    recorder = RecordingFilesystem(fs)
    recorder.read("read", limit=100)
    recorder.lookup("absent")
    return recorder.reads()


def test_an_image_that_differs_elsewhere_gets_the_same_result(memo: Memo, tmp_path: Path) -> None:
    one, other = _image(tmp_path / "1", read="a", more="b"), _image(tmp_path / "2", read="a", more="c")
    memo.keep("key", one, _work(one), b"result")

    assert list(memo.find("key", other)) == [b"result"]
    assert list(memo.find("key2", other)) == []


@pytest.mark.parametrize("files", [{"read": "b"}, {"read": "a", "absent": ""}, {}], ids=["changed", "new", "gone"])
def test_an_image_in_which_something_read_differs_does_not(memo: Memo, tmp_path: Path, files: dict[str, str]) -> None:
    one, other = _image(tmp_path / "1", read="a"), _image(tmp_path / "2", **files)
    memo.keep("key", one, _work(one), b"result")

    assert list(memo.find("key", other)) == []


def test_results_for_several_bases_are_kept_and_the_oldest_goes(memo: Memo, tmp_path: Path) -> None:
    images = [_image(tmp_path / str(number), read=str(number)) for number in range(MAX_VARIANTS + 1)]
    for number, image in enumerate(images):
        memo.keep("key", image, _work(image), str(number).encode())

    assert [list(memo.find("key", image)) for image in images] == [[], *([str(n).encode()] for n in range(1, 9))]


def test_a_result_is_replaced_not_doubled(memo: Memo, tmp_path: Path) -> None:
    image = _image(tmp_path / "1", read="a")
    memo.keep("key", image, _work(image), b"old")
    memo.keep("key", image, _work(image), b"new")

    assert list(memo.find("key", image)) == [b"new"]


def test_names_that_are_no_text_can_be_in_a_read_set(memo: Memo, tmp_path: Path) -> None:
    name = b"\xff".decode("utf-8", "surrogateescape")
    image = _image(tmp_path / "1", **{name: "a"})
    memo.keep("key", image, frozenset({name}), b"result")

    assert list(memo.find("key", image)) == [b"result"]


def test_an_image_that_was_seen_before_is_not_looked_at_again(memo: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    one, same, other = (tree({"read": b"a"}, {"more": text}) for text in (b"b", b"b", b"c"))
    memo.keep("key", one, frozenset({"read"}), b"result")
    looked: list[object] = []

    def watched(fs: ImageFilesystem, paths: Iterable[str]) -> str:
        looked.append(fs)
        return state_of(fs, paths)

    monkeypatch.setattr("copacetic.pipeline.open.memo.state_of", watched)

    assert [list(memo.find("key", fs)) for fs in (same, other, other)] == [[b"result"]] * 3

    assert looked == [other], "an equal image is known by its layers, and another one is after it was found to be alike"


def test_a_broken_entry_counts_as_none(memo: Memo, tmp_path: Path) -> None:
    image = _image(tmp_path / "1", read="a")
    memo.keep("key", image, _work(image), b"result")
    next((tmp_path / "cache").glob("results.v1/key")).write_bytes(b"\xc1")

    assert list(memo.find("key", image)) == []
