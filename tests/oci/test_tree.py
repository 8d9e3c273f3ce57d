# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import ImageError, PackageError
from copacetic.oci.change import Change, Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.recording import RecordingFilesystem
from copacetic.oci.tree import TreeBuilder
from support.image.trees import Content, directory, symlink, tree

DIRECTORY = Entry(type=FileType.DIRECTORY, mode=0o755)
FILE = Entry(type=FileType.FILE, mode=0o644)


def builder(*layers: dict[str, Content]) -> TreeBuilder:
    return TreeBuilder(tree(*layers))


def finished(changes: TreeBuilder) -> dict[str, Change]:
    entries = changes.finish().entries
    assert [change.path for change in entries] == sorted(change.path for change in entries)
    return {change.path: change for change in entries}


IMAGE: dict[str, Content] = {
    "usr": directory(),
    "usr/lib": directory(0o750, 3, 4),
    "usr/lib/a": "one",
    "lib": symlink("usr/lib"),
    "away": symlink("../../../usr"),
    "loop": symlink("pool"),
    "pool": symlink("loop"),
    "file": "plain",
}


def test_a_new_file_comes_with_its_parents_as_the_image_has_them() -> None:
    changes = builder(IMAGE)
    changes.put("usr/lib/new/deep", FILE, b"x")

    done = finished(changes)

    assert list(done) == ["usr", "usr/lib", "usr/lib/new", "usr/lib/new/deep"]
    assert done["usr/lib"].entry == tree(IMAGE).lookup("usr/lib")
    assert done["usr/lib/new"].entry == DIRECTORY


def test_paths_go_through_the_images_links() -> None:
    changes = builder(IMAGE)

    assert changes.put("lib/b", FILE, b"x") == "usr/lib/b"
    assert "lib" not in finished(changes)


def test_paths_go_through_links_among_the_changes() -> None:
    changes = builder(IMAGE)
    changes.symlink("opt", "/usr/lib", mtime=0)

    assert changes.put("opt/b", FILE, b"x") == "usr/lib/b"


def test_links_never_lead_out_of_the_root() -> None:
    assert builder(IMAGE).put("away/b", FILE, b"x") == "usr/b"


def test_a_loop_of_links_is_an_error() -> None:
    with pytest.raises(ImageError, match="too many levels"):
        builder(IMAGE).put("loop/b", FILE, b"x")


def test_a_file_is_no_place_for_files() -> None:
    with pytest.raises(PackageError, match="file is not a directory"):
        builder(IMAGE).put("file/b", FILE, b"x")


def test_what_is_identical_below_is_left_out() -> None:
    changes = builder(IMAGE)
    changes.put("usr/lib/a", Entry(type=FileType.FILE, mode=0o644, mtime=12345), b"one")
    changes.put("usr/lib", Entry(type=FileType.DIRECTORY, mode=0o750, uid=3, gid=4))
    changes.symlink("lib", "usr/lib", mtime=1)

    done = changes.finish()

    assert done.entries == ()
    assert done.unchanged == {"usr/lib/a": b"one"}


@pytest.mark.parametrize(
    "entry",
    [
        Entry(type=FileType.FILE, mode=0o755),
        Entry(type=FileType.FILE, mode=0o644, uid=1),
        Entry(type=FileType.FILE, mode=0o644, gid=1),
        Entry(type=FileType.FILE, mode=0o644, xattrs={"user.x": b"y"}),
    ],
)
def test_other_attributes_are_a_change(entry: Entry) -> None:
    changes = builder(IMAGE)
    changes.put("usr/lib/a", entry, b"one")

    assert finished(changes)["usr/lib/a"].content == b"one"


def test_a_removal_is_a_whiteout_only_for_what_is_seen() -> None:
    changes = builder(IMAGE)
    changes.put("usr/lib/gone", FILE, b"x")

    assert changes.remove("usr/lib/a")
    assert changes.remove("usr/lib/gone")
    assert not changes.remove("usr/lib/never")
    assert [path for path, change in finished(changes).items() if change.entry is None] == ["usr/lib/a"]


def test_a_folder_is_removed_only_when_it_is_empty_and_then_alone() -> None:
    changes = builder(IMAGE)

    assert not changes.remove("usr/lib")
    assert changes.remove("usr/lib/a")
    assert changes.remove("usr/lib")
    assert {path for path, change in finished(changes).items() if change.entry is None} == {"usr/lib"}


def test_a_folder_that_comes_back_is_empty() -> None:
    changes = builder(IMAGE)
    changes.put("usr/lib", FILE, b"a file now")
    changes.put("usr/lib", DIRECTORY)
    changes.put("usr/lib/b", FILE, b"x")

    done = finished(changes)

    assert changes.iterdir("usr/lib") == ("b",)
    assert done["usr/lib/a"].entry is None


def test_what_is_behind_a_link_that_became_a_folder_is_not_in_it() -> None:
    changes = builder(IMAGE)
    changes.put("lib", DIRECTORY)
    changes.put("lib/b", FILE, b"x")

    assert changes.lookup("lib/a") is None
    assert changes.iterdir("lib") == ("b",)
    assert set(finished(changes)) == {"lib", "lib/b"}


def test_the_view_shows_the_changes() -> None:
    changes = builder(IMAGE)
    changes.put("usr/lib/b", FILE, b"two")
    changes.remove("usr/lib/a")

    assert changes.iterdir("lib") == ("b",)
    assert changes.read("lib/b", limit=3) == b"two"
    assert changes.read("file", limit=10) == b"plain"
    with pytest.raises(FileNotFoundError):
        changes.read("lib/a", limit=10)
    with pytest.raises(ImageError, match="more than 2"):
        changes.read("lib/b", limit=2)


def test_hard_links_name_the_first_path() -> None:
    changes = builder(IMAGE)
    changes.put("usr/b", FILE, b"x")
    changes.link("usr/a", "usr/b")
    changes.link("usr/lib/c", "usr/b")

    done = finished(changes)

    assert (done["usr/a"].content, done["usr/a"].hardlink) == (b"x", "")
    assert (done["usr/b"].content, done["usr/b"].hardlink) == (None, "usr/a")
    assert (done["usr/lib/c"].content, done["usr/lib/c"].hardlink) == (None, "usr/a")


def test_a_hard_link_needs_a_target_among_the_changes() -> None:
    with pytest.raises(PackageError, match="not in the package"):
        builder(IMAGE).link("usr/b", "usr/lib/a")


def test_writing_keeps_mode_and_owner_and_does_nothing_for_the_same_bytes() -> None:
    below: dict[str, Content] = {"secret": Entry(type=FileType.FILE, mode=0o600, uid=7), "same": "x"}
    changes = builder(below)
    changes.write("secret", b"new", mtime=5)
    changes.write("same", b"x", mtime=5)

    entry = finished(changes)["secret"].entry

    assert entry is not None
    assert (entry.mode, entry.uid, entry.mtime) == (0o600, 7, 5)
    assert set(finished(changes)) == {"secret"}


def test_spooled_content_is_read_from_its_window(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.write_bytes(b"..content..")
    changes = builder(IMAGE)
    changes.put("b", Entry(type=FileType.FILE, mode=0o644, size=7), Spooled(spool, 2, 7))

    assert changes.read("b", limit=7) == b"content"
    assert changes.read_window("b", 3, 100, limit=0) == b"tent"


def test_the_read_set_names_what_was_looked_at() -> None:
    fs = RecordingFilesystem(tree(IMAGE))
    changes = TreeBuilder(fs)
    changes.put("lib/b", FILE, b"x")
    changes.finish()

    assert {"lib", "usr", "usr/lib", "usr/lib/b"} <= fs.reads()


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["file", "folder", "link", "remove"]), PATHS, st.sampled_from(["", "a", "../b", "/c"])),
    max_size=12,
)


@given(OPERATIONS)
def test_a_layer_of_the_changes_shows_what_the_builder_shows(operations: list[tuple[str, str, str]]) -> None:
    image: dict[str, Content] = {"a": directory(), "a/b": "1", "b": symlink("a"), "c": directory(), "c/a": directory()}
    changes = builder(image)
    for what, path, text in operations:
        try:
            if what == "file":
                changes.put(path, FILE, text.encode())
            elif what == "folder":
                changes.put(path, DIRECTORY)
            elif what == "link":
                changes.symlink(path, text or "x", mtime=0)
            else:
                changes.remove(path)
        except (PackageError, ImageError):
            continue
    layer: dict[str, Content] = {}
    for change in changes.finish().entries:
        folder, _, name = change.path.rpartition("/")
        if change.entry is None:
            layer[f"{folder}/.wh.{name}" if folder else f".wh.{name}"] = b""
        elif change.entry.type is FileType.FILE:
            assert isinstance(change.content, bytes)
            layer[change.path] = change.content
        else:
            layer[change.path] = change.entry
    result = tree(image, layer)

    def shown(folder: str) -> None:
        assert result.iterdir(folder) == changes.iterdir(folder)
        for name in changes.iterdir(folder):
            path = f"{folder}/{name}" if folder else name
            expected, actual = changes.lookup(path, follow=False), result.lookup(path, follow=False)
            assert expected is not None
            assert actual is not None
            assert (expected.type, expected.target, expected.sha256) == (actual.type, actual.target, actual.sha256)
            if actual.type is FileType.DIRECTORY:
                shown(path)

    shown("")
