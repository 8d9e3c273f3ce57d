# SPDX-License-Identifier: Apache-2.0
"""Layers: read as a stream, stacked as containers see them, and written so that everybody can read them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copacetic.budget import Slots
from copacetic.cache import Cache
from copacetic.errors import CorruptLayerError, HostileLayerError, ImageError, VerificationError
from copacetic.keep import KeepRule, KeepRules
from copacetic.oci import Descriptor, Digest
from copacetic.oci.change import Change, Spooled
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem, hidden_versions
from copacetic.oci.layered import IndexedLayer, LayeredFilesystem
from copacetic.oci.layerindex import scan_layer
from copacetic.oci.layerstore import INDEX_VERSION, LayerStore
from copacetic.oci.layerwriter import plain_parts, write_layer
from copacetic.oci.layout import LayoutSource
from copacetic.oci.recording import RecordingFilesystem, state_of
from copacetic.oci.tarstream import HostileTarError, TarError, TarReader
from copacetic.progress import Silent
from support.deb.debian import need
from support.floors import accepting, refusal, tally
from support.hostile.mutations import seal
from support.image.images import fixture, make_image, make_layer, make_tar, tar_file, umoci, write_layout
from support.image.trees import TarContents, directory, indexed, stack, symlink, tree

# -- tar -------------------------------------------------------------------------------------------------------------


def read_tar(data: bytes) -> dict[str, tuple[Any, ...]]:
    reader = TarReader(io.BytesIO(data), chunk=700)
    return {
        e.path: (e.type, e.mode, e.uid, e.gid, e.mtime, e.linkname, b"".join(bytes(p) for p in reader.content()))
        for e in reader
    }


_component = st.text("abcé~ -._😀", min_size=1, max_size=60).filter(lambda c: c not in {".", ".."})
_paths = st.lists(_component, min_size=1, max_size=6).map("/".join)
_members = st.lists(
    st.tuples(
        _paths,
        st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE]),
        st.integers(0, 0o7777),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**35),
        st.binary(max_size=1500),
    ),
    max_size=8,
    unique_by=lambda member: member[0],
)


@settings(max_examples=60, deadline=None)
@given(_members, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_the_reader_sees_what_tarfile_wrote(members: list[Any], format_: int) -> None:
    stream = io.BytesIO()
    expected = {}
    with tarfile.open(fileobj=stream, mode="w", format=format_) as archive:
        for path, kind, mode, owner, mtime, data in members:
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, owner, owner // 2, mtime
            info.linkname = path[::-1] if kind == tarfile.SYMTYPE else ""
            content = data if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            expected[path] = (kind.decode(), mode, owner, owner // 2, mtime, info.linkname, content)

    assert read_tar(stream.getvalue()) == expected


def test_extended_attributes_and_odd_types_are_read() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("ping")
        info.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x02"}
        archive.addfile(info)
        old = tarfile.TarInfo("old")
        old.type = tarfile.AREGTYPE
        archive.addfile(old)

    one, two = list(TarReader(io.BytesIO(stream.getvalue())))

    assert one.xattrs == {"security.capability": b"\x01\x02"}
    assert two.type == "0"


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_truncated_archive_is_noticed_wherever_it_ends(cut: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(*_open(tar_file("a", b"x" * 700)))
    data = stream.getvalue()[: cut * 300]

    with pytest.raises(TarError):
        read_tar(data)


def _open(item: tuple[tarfile.TarInfo, bytes]) -> tuple[tarfile.TarInfo, io.BytesIO]:
    return item[0], io.BytesIO(item[1])


@accepting(0.1)
@given(st.integers(0, 511), st.binary(min_size=1, max_size=4), st.booleans())
def test_damage_in_a_header_is_an_error_or_harmless_and_nothing_else(at: int, damage: bytes, sealed: bool) -> None:
    header = bytearray(tarfile.TarInfo("name").tobuf())
    header[at : at + len(damage)] = damage
    with refusal(TarError):
        read_tar((seal(bytes(header[:512])) if sealed else bytes(header)) + bytes(1024))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a/..", ".."])
def test_a_path_that_climbs_is_hostile(path: str) -> None:
    with pytest.raises(HostileTarError, match="climbs"):
        read_tar(tarfile.TarInfo(path).tobuf())


# -- stacking --------------------------------------------------------------------------------------------------------


def test_links_are_resolved_inside_the_root() -> None:
    fs = tree(
        {
            "usr/lib/x": "1",
            "lib": symlink("usr/lib"),
            "up": symlink("../../../usr"),
            "abs": symlink("/lib/x"),
            "loop": symlink("loop"),
        }
    )

    assert fs.resolve("lib/x") == "usr/lib/x"
    assert fs.read("/up/lib/../lib/x", limit=9) == b"1"
    assert fs.read("abs", limit=9) == b"1"
    assert fs.resolve("abs", follow=False) == "abs"
    with pytest.raises(ImageError, match="too many levels"):
        fs.lookup("loop/x")


def test_whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() -> None:
    fs = tree(
        {"d/a": "1", "d/b": "2", "e/x": "3", "f": "4"},
        {"d/.wh.a": "", "e/.wh..wh..opq": "", "e/y": "5", ".wh.f": ""},
    )

    assert fs.iterdir("d") == ("b",)
    assert fs.iterdir("e") == ("y",)
    assert fs.lookup("f") is None
    assert [path for path, _ in fs.walk()] == ["d", "d/b", "e", "e/y"]
    assert (fs.layer_of("d/b"), fs.layer_of("e/y")) == (0, 1)


def test_a_whiteout_in_a_directory_that_replaced_a_link_hides_nothing_behind_that_link() -> None:
    lower = make_tar({"b/": "", "b/x": "1", "a@": "b"})
    folder, hidden = tar_file("a", type=tarfile.DIRTYPE, mode=0o755), tar_file("a/.wh.x")
    opaque = tar_file("a/.wh..wh..opq")

    for whiteout in (hidden, opaque):
        assert stack(lower, make_tar([folder, whiteout])).lookup("b/x") is not None
        assert stack(lower, make_tar([whiteout, folder])).lookup("b/x") is None, "the link was still there"
        assert stack(lower, make_tar([whiteout])).lookup("b/x") is None


def test_a_file_replaces_a_directory_and_the_other_way_round() -> None:
    fs = tree({"a/b": "1", "c": "2"}, {"a": "3", "c": directory(0o700), "c/d": "4"})

    assert fs.read("a", limit=9) == b"3"
    assert fs.lookup("a/b") is None
    assert fs.read("c/d", limit=9) == b"4"


@pytest.mark.parametrize("kind", ["layers", "directory"])
def test_reading_says_no_clearly(kind: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "big").write_text("x" * 100)
    layers = tree({"big": "x" * 100, "dir": directory()})
    fs: ImageFilesystem = layers if kind == "layers" else DirectoryFilesystem(tmp_path)

    with pytest.raises(ImageError, match=r"limit is 10|more than 10 bytes"):
        fs.read("big", limit=10)
    for path in ("dir", "absent", "big/x"):
        with pytest.raises(FileNotFoundError):
            fs.read(path, limit=10)


def test_hard_links_share_a_group_across_layers() -> None:
    one = make_layer([tar_file("a", b"1")]).plain
    two = make_layer([tar_file("b", type=tarfile.LNKTYPE, linkname="a")]).plain
    fs = stack(one, two)

    assert fs.read("b", limit=9) == b"1"
    first, second = fs.lookup("a"), fs.lookup("b")
    assert first is not None
    assert second is not None
    assert first.link_group == second.link_group == "a"
    with pytest.raises(CorruptLayerError, match="hard link"):
        stack(two)


_small = st.sampled_from(["a", "b", "a/x", "a/y", "b/x", "a/x/z", "c"])
_layers = st.lists(
    st.dictionaries(
        _small,
        st.one_of(
            st.binary(max_size=3),
            st.just(directory(0o711)),
            st.sampled_from(["a", "b", "/c", "../b"]).map(symlink),
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=3,
)
_deletions = st.lists(st.sampled_from(["a/.wh.x", ".wh.b", "a/.wh..wh..opq", ".wh.c"]), max_size=2)


def _consistent(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Only what a tar of a real directory can hold: nothing lies below what is no directory in the same layer."""
    for layer in layers:
        for path in layer:
            parent = path.rpartition("/")[0]
            while parent:
                above = layer.get(parent)
                if above is not None and not (isinstance(above, Entry) and above.type is FileType.DIRECTORY):
                    return False
                parent = parent.rpartition("/")[0]
    return True


@pytest.mark.system
@accepting(0.1)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(layers=_layers, deletions=_deletions)
def test_the_stacked_view_is_the_tree_that_umoci_unpacks(
    tmp_path_factory: pytest.TempPathFactory, layers: list[dict[str, Any]], deletions: list[str]
) -> None:
    need("umoci", root=True)
    if not _consistent(layers):
        return tally(accepted=False)
    # Every directory is explicit, as in the tars that real builders write.
    full = [dict(sorted({**_parents(layer), **layer}.items())) for layer in layers]
    removed = dict.fromkeys(deletions, b"")
    full.append({**_parents(removed), **removed})
    from support.image.trees import layer_tar

    tars = [layer_tar(layer) for layer in full]
    try:
        view = stack(*tars)
    except ImageError:
        return tally(accepted=False)
    work = tmp_path_factory.mktemp("umoci")
    write_layout(work / "layout", {"1": make_image([make_layer(data) for data in tars])})
    try:
        umoci("unpack", "--image", f"{work / 'layout'}:1", work / "out")
    except AssertionError:
        return tally(accepted=False)  # umoci refuses what it can't extract; then there is nothing to compare
    assert _listing(view) == _listing(DirectoryFilesystem(work / "out" / "rootfs"))
    return tally(accepted=True)


@accepting(0.2)
@settings(max_examples=50, deadline=None)
@given(layers=_layers, deletions=_deletions, linked=st.sampled_from(["", "a", "b", "a/x"]))
def test_a_view_with_one_layer_more_is_the_view_of_all_and_leaves_the_lower_one_alone(
    layers: list[dict[str, Any]], deletions: list[str], linked: str
) -> None:
    from support.image.trees import layer_tar

    lower = [layer_tar({**_parents(layer), **layer}) for layer in layers if _consistent([layer])]
    top = layer_tar({**_parents(dict.fromkeys(deletions)), **dict.fromkeys(deletions, b"")})
    if linked:
        top = make_layer([tar_file("hard", type=tarfile.LNKTYPE, linkname=linked)]).plain
    with refusal(ImageError):
        below, both = stack(*lower), stack(*lower, top)
        before = dict(below.walk())

        above = below.stacked_with(indexed(top))

        assert dict(above.walk()) == dict(both.walk())
        assert dict(below.walk()) == before == dict(stack(*lower).walk())


def _parents(layer: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for path in layer:
        parent = path.rpartition("/")[0]
        while parent:
            if parent not in layer:
                found[parent] = directory()
            parent = parent.rpartition("/")[0]
    return found


def _listing(fs: ImageFilesystem) -> dict[str, tuple[Any, ...]]:
    return {
        path: (e.type, e.mode if e.type is not FileType.SYMLINK else 0, e.target, e.sha256) for path, e in fs.walk()
    }


# -- index and store -------------------------------------------------------------------------------------------------


KEEP = (KeepRules([KeepRule("etc/")]),)


def test_a_layer_is_read_once_and_its_index_kept(tmp_path: Path) -> None:
    layer = make_layer({"etc/os-release": "ID=debian", "big": "x" * 1000})
    write_layout(tmp_path / "layout", {"1": make_image([layer])})
    source = LayoutSource(tmp_path / "layout", "1")

    def open_it() -> LayeredFilesystem:
        store = LayerStore(Cache(tmp_path / "cache"), KEEP)
        return store.open(source, [layer.descriptor], [layer.diff_id], transfers=Slots("test", 1), progress=Silent())

    assert open_it().read("big", limit=2000) == b"x" * 1000
    (tmp_path / "layout/blobs" / str(layer.descriptor.digest).replace(":", "/")).unlink()
    fs = open_it()

    assert fs.read("etc/os-release", limit=99) == b"ID=debian", "kept beside the index"
    assert fs.lookup("big") is not None
    with pytest.raises(Exception, match=str(layer.descriptor.digest)):
        fs.read("big", limit=2000)


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    layer = make_layer({"a": "1"})
    write_layout(tmp_path / "layout", {"1": make_image([layer])})
    source = LayoutSource(tmp_path / "layout", "1")
    for _ in range(2):
        store = LayerStore(Cache(tmp_path / "cache"), KEEP)
        fs = store.open(source, [layer.descriptor], [layer.diff_id], transfers=Slots("test", 1), progress=Silent())
        assert fs.read("a", limit=9) == b"1"
        (entry,) = [p for p in (tmp_path / "cache" / f"layers.v{INDEX_VERSION}").iterdir() if p.is_file()]
        entry.write_bytes(entry.read_bytes()[:20])


def test_a_layer_that_is_not_its_diff_id_is_corrupt() -> None:
    layer = make_layer({"a": "1"})

    with pytest.raises(CorruptLayerError, match="is not the sha256:"):
        scan_layer(io.BytesIO(layer.blob), layer.descriptor, Digest.of(b"other"))


@pytest.mark.parametrize("name", ["stereoscope", "ggcr", "osv-scalibr"])
def test_real_odd_layers_are_read_or_refused_and_nothing_else(name: str) -> None:
    outcomes = []
    for path in sorted(fixture(f"images/{name}").rglob("*.tar")):
        try:
            outcomes.append(len(list(stack(path.read_bytes()).walk())))
        except (CorruptLayerError, HostileLayerError) as error:
            outcomes.append(str(error).count("\n"))

    assert outcomes, "the fixture has no tars"
    assert any(outcomes)


def test_what_was_looked_at_is_the_read_set_and_decides_the_state() -> None:
    one = tree({"a": "1", "b": "2", "d/x": "3"})
    other = tree({"a": "1", "b": "changed", "d/x": "3", "d/y": "4"})
    recorder = RecordingFilesystem(one)
    recorder.read("a", limit=9)
    recorder.iterdir("d")

    assert recorder.reads() == {"a", "d/"}
    assert state_of(one, ["a"]) == state_of(other, ["a"])
    assert state_of(one, ["b"]) != state_of(other, ["b"])
    assert state_of(one, ["d/"]) != state_of(other, ["d/"])


def test_older_versions_of_a_file_are_those_of_lower_layers_the_lowest_first() -> None:
    fs = tree({"a": "1", "b": "x"}, {"a": "2"}, {"c": ""}, {"a": "3"})

    assert hidden_versions(fs, "a", limit=10) == (b"1", b"2")
    assert hidden_versions(fs, "b", limit=10) == ()
    assert hidden_versions(fs, "gone", limit=10) == ()
    with pytest.raises(ImageError, match="a of layer 0 has 1 bytes, the limit is 0"):
        hidden_versions(fs, "a", limit=0)


def test_older_versions_that_were_looked_at_are_part_of_the_read_set(tmp_path: Path) -> None:
    one, other = tree({"a": "1"}, {"a": "3"}), tree({"a": "2"}, {"a": "3"})
    recorder = RecordingFilesystem(one)
    hidden_versions(recorder, "a", limit=10)

    (element,) = recorder.reads()

    assert state_of(one, ["a"]) == state_of(other, ["a"])
    assert state_of(one, [element]) != state_of(other, [element])
    assert hidden_versions(RecordingFilesystem(DirectoryFilesystem(tmp_path)), "a", limit=10) == ()


# -- writing ---------------------------------------------------------------------------------------------------------


def _changes(tmp_path: Path) -> list[Change]:
    spool = tmp_path / "spool"
    spool.write_bytes(b"0123456789" * 300_000)
    file = FileType.FILE
    return [
        Change(path="dir", entry=Entry(type=FileType.DIRECTORY, mode=0o1777, uid=1, gid=2, mtime=5)),
        Change(
            path="dir/big", entry=Entry(type=file, mode=0o4755, mtime=2**33 + 1), content=Spooled(spool, 10, 2_500_000)
        ),
        Change(path="dir/gone", entry=None),
        Change(path="dir/link", entry=Entry(type=FileType.SYMLINK, mode=0o777, target="t" * 150)),
        Change(path="dir/" + "é" * 120, entry=Entry(type=file, mode=0o644), content=b"x"),
        Change(path="dir/other", entry=Entry(type=file, mode=0o4755), hardlink="dir/big"),
        Change(path="null", entry=Entry(type=FileType.CHARACTER_DEVICE, mode=0o666, device=(1, 3))),
        Change(path="ping", entry=Entry(type=file, mode=0o755, xattrs={"user.x": b"\x00\xff"}), content=b""),
    ]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_written_layer_reads_back_the_same(tmp_path: Path, compression: str) -> None:
    changes = _changes(tmp_path)
    written = write_layer(changes, tmp_path / "layer", Slots("test", 2), compression=compression)
    descriptor = Descriptor(media_type="", digest=written.digest, size=written.size)

    with (tmp_path / "layer").open("rb") as stream:
        index = scan_layer(stream, descriptor, written.diff_id)
    fs = LayeredFilesystem([IndexedLayer(index, TarContents(b""))])

    assert [path for path, _, _ in index.whiteouts] == ["dir/gone"]
    assert index.size == sum(map(len, plain_parts(changes)))
    for change in changes:
        if change.entry is None or change.hardlink:
            continue
        entry = fs.lookup(change.path, follow=False)
        assert entry is not None
        assert (entry.type, entry.mode, entry.uid, entry.target, entry.device) == (
            change.entry.type, change.entry.mode, change.entry.uid, change.entry.target, change.entry.device,
        )  # fmt: skip
        assert dict(entry.xattrs) == dict(change.entry.xattrs)
        assert entry.mtime == change.entry.mtime
    assert fs.lookup("dir/other") == fs.lookup("dir/big")


def test_the_same_changes_give_the_same_bytes(tmp_path: Path) -> None:
    changes = _changes(tmp_path)

    first, second = (write_layer(changes, tmp_path / name, Slots("test", 2), compression="gzip") for name in ("a", "b"))

    assert first == second
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("path", [".wh.etc", "usr/bin/.wh.passwd", "usr/.wh..wh..opq", "usr/.wh.bin/tool"])
@pytest.mark.parametrize("kind", [FileType.FILE, FileType.DIRECTORY, FileType.SYMLINK, None])
def test_no_layer_is_written_with_a_name_that_would_take_something_away(
    tmp_path: Path, path: str, kind: FileType | None
) -> None:
    entry = None if kind is None else Entry(type=kind, mode=0o644)

    with pytest.raises(VerificationError, match="names with .wh. take files away"):
        write_layer([Change(path=path, entry=entry)], tmp_path / "layer", Slots("test", 2), compression="none")


@pytest.mark.system
def test_gnu_tar_and_tarfile_read_a_written_layer(tmp_path: Path) -> None:
    need("tar")
    write_layer(_changes(tmp_path), tmp_path / "layer", Slots("test", 2), compression="gzip")

    listed = subprocess.run(
        ["tar", "-tzf", tmp_path / "layer"],
        check=True,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    with tarfile.open(tmp_path / "layer") as archive:
        names = archive.getnames()

    assert len(listed.stdout.splitlines()) == len(names) == 8
    assert "dir/.wh.gone" in names


def test_an_index_survives_names_that_are_not_utf_8() -> None:
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape", encoding="utf-8"
    ) as archive:
        archive.addfile(tarfile.TarInfo("bad-\udcff"))

    fs = stack(stream.getvalue())

    assert fs.iterdir("") == ("bad-\udcff",)
