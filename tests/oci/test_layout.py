# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from copacetic.errors import (
    CopaError,
    ImageError,
    IntegrityError,
    NotFoundError,
    StorageError,
    UsageError,
)
from copacetic.oci import Descriptor
from copacetic.oci.layout import LayoutDestination, LayoutSource
from copacetic.oci.manifest import DOCKER_MANIFEST, MANIFEST_LIMIT, OCI_INDEX, OCI_MANIFEST
from copacetic.oci.transport import ByteStream, Source
from support.image.images import (
    Image,
    MemorySource,
    assert_valid_image,
    copy_image,
    describe,
    make_image,
    make_index,
    make_layer,
    skopeo,
    small_disk,
    umoci,
    write_layout,
)


def image(text: str = "one", **options: Any) -> Image:
    return make_image([make_layer({"etc/": "", "etc/name": text}), make_layer({"etc/more": text * 2})], **options)


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may write everywhere; nobody may not."""
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def read_index(layout: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((layout / "index.json").read_bytes())["manifests"]
    return entries


def tags(layout: Path) -> list[str]:
    return [e.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for e in read_index(layout)]


def blob_file(layout: Path, descriptor: Descriptor) -> Path:
    return layout / "blobs" / descriptor.digest.algorithm / descriptor.digest.encoded


class TestReading:
    def test_the_only_image_needs_no_tag(self, tmp_path: Path) -> None:
        made = image()
        write_layout(tmp_path / "l", {"1.0": made})
        root, raw = LayoutSource(tmp_path / "l").root()
        assert (root.digest, raw) == (made.descriptor.digest, made.raw)

    def test_a_tag_selects_among_several(self, tmp_path: Path) -> None:
        one, two = image("one"), image("two")
        write_layout(tmp_path / "l", {"a": one, "b": two})
        assert LayoutSource(tmp_path / "l", "b").root()[1] == two.raw

    def test_several_images_and_no_tag_names_the_tags(self, tmp_path: Path) -> None:
        write_layout(tmp_path / "l", {"a": image("one"), "b": image("two")})
        with pytest.raises(UsageError) as caught:
            LayoutSource(tmp_path / "l").root()
        assert caught.value.hint == "append :TAG; it has a, b"

    def test_an_unknown_tag_names_the_tags(self, tmp_path: Path) -> None:
        write_layout(tmp_path / "l", {"a": image("one")})
        with pytest.raises(NotFoundError, match="there is no tag c") as caught:
            LayoutSource(tmp_path / "l", "c").root()
        assert caught.value.hint == "it has a"

    def test_a_blob_is_streamed_whole(self, tmp_path: Path) -> None:
        made = image()
        write_layout(tmp_path / "l", {"": made})
        source = LayoutSource(tmp_path / "l")
        for layer in made.layers:
            with source.open_blob(layer.descriptor) as stream:
                assert b"".join(iter(lambda: stream.read(100), b"")) == layer.blob

    def test_a_missing_media_type_is_found_in_the_manifest(self, tmp_path: Path) -> None:
        made = image(manifest={"mediaType": ""})
        layout = write_layout(tmp_path / "l", {"": made})
        entry = {"digest": str(made.descriptor.digest), "size": made.descriptor.size}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        assert LayoutSource(layout).root()[0].media_type == OCI_MANIFEST

    def test_nested_indexes_are_not_followed(self, tmp_path: Path) -> None:
        nested = image()
        for _ in range(200):
            nested = make_index([nested])
        write_layout(tmp_path / "l", {"": nested})
        root, raw = LayoutSource(tmp_path / "l").root()
        assert root.media_type == OCI_INDEX
        assert raw == nested.raw

    @pytest.mark.parametrize(
        ("damage", "error", "text"),
        [
            ("gone", NotFoundError, "is not an OCI layout: it has no index.json"),
            ("not json", ImageError, "index.json is unusable: the index is not JSON"),
            ("a list", ImageError, "index.json is unusable"),
            ("no entries", NotFoundError, "holds no image"),
            ("deep", ImageError, "index.json is unusable"),
            ("huge", ImageError, "has more than"),
            ("pipe", ImageError, "is not a regular file"),
            ("bad digest", ImageError, "not a digest"),
            ("climbing digest", ImageError, "not a digest"),
            ("negative size", ImageError, "no usable size"),
        ],
    )
    def test_a_broken_index_is_one_clear_error(
        self, tmp_path: Path, damage: str, error: type[CopaError], text: str
    ) -> None:
        layout = write_layout(tmp_path / "l", {"": image()})
        index = layout / "index.json"
        entry = read_index(layout)[0]
        contents = {
            "not json": b"{",
            "a list": b"[]",
            "no entries": b'{"manifests":[]}',
            "deep": b"[" * 200_000,
            "huge": b" " * (MANIFEST_LIMIT + 1),
            "bad digest": json.dumps({"manifests": [{**entry, "digest": "sha256:1"}]}).encode(),
            "climbing digest": json.dumps({"manifests": [{**entry, "digest": "sha256:../../x"}]}).encode(),
            "negative size": json.dumps({"manifests": [{**entry, "size": -1}]}).encode(),
        }
        index.unlink()
        if damage == "pipe":
            os.mkfifo(index)
        elif damage != "gone":
            index.write_bytes(contents[damage])
        with pytest.raises(error, match=text):
            LayoutSource(layout).root()

    def test_a_missing_blob_says_which(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "l", {"": made})
        descriptor = made.layers[0].descriptor
        blob_file(layout, descriptor).unlink()
        with (
            pytest.raises(NotFoundError, match=f"has no blob {descriptor.digest}"),
            LayoutSource(layout).open_blob(descriptor),
        ):
            pass

    def test_a_manifest_of_another_size_is_refused(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "l", {"": made})
        blob_file(layout, made.descriptor).write_bytes(made.raw + b" ")
        with pytest.raises(IntegrityError, match="bytes instead of"):
            LayoutSource(layout).root()

    def test_a_manifest_of_another_content_is_refused(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "l", {"": made})
        blob_file(layout, made.descriptor).write_bytes(made.raw.replace(b"schemaVersion", b"schemaversion"))
        with pytest.raises(IntegrityError, match="digest"):
            LayoutSource(layout).root()

    def test_an_oversize_manifest_is_refused(self, tmp_path: Path) -> None:
        made = image(manifest={"padding": "x" * MANIFEST_LIMIT})
        layout = write_layout(tmp_path / "l", {"": made})
        with pytest.raises(ImageError, match="has more than"):
            LayoutSource(layout).root()

    def test_two_images_with_one_tag_are_ambiguous(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "l", {"a": image("one"), "b": image("two")})
        text = (layout / "index.json").read_text().replace('ref.name":"b"', 'ref.name":"a"')
        (layout / "index.json").write_text(text)
        with pytest.raises(UsageError, match="2 images with the tag a"):
            LayoutSource(layout, "a").root()


class TestWriting:
    def test_a_copy_is_valid_and_the_same(self, tmp_path: Path) -> None:
        made = make_index([image("one"), image("two", platform="linux/arm64/v8")])
        published = copy_image(MemorySource(made), LayoutDestination(tmp_path / "a/b/l", "1"))
        assert published.reference == f"oci:{tmp_path}/a/b/l:1@{made.descriptor.digest}"
        assert_valid_image(tmp_path / "a/b/l", "1")
        assert LayoutSource(tmp_path / "a/b/l", "1").root()[1] == made.raw
        assert sorted(p.name for p in (tmp_path / "a/b/l").iterdir()) == ["blobs", "index.json", "oci-layout"]

    def test_a_docker_manifest_stays_one(self, tmp_path: Path) -> None:
        made = make_image([make_layer({"a": "b"}, kind="docker")], kind="docker")
        copy_image(MemorySource(made), LayoutDestination(tmp_path / "l", "1"))
        assert read_index(tmp_path / "l")[0]["mediaType"] == DOCKER_MANIFEST
        assert LayoutSource(tmp_path / "l", "1").root()[1] == made.raw

    def test_other_tags_and_fields_stay_and_the_same_tag_is_replaced(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "l", {"a": image("one"), "b": image("two"), "c": image("three")})
        document = json.loads((layout / "index.json").read_bytes())
        document["x-unknown"] = {"kept": [1, 2.5]}
        document["manifests"][0]["x-more"] = "kept"
        (layout / "index.json").write_text(json.dumps(document))
        new = image("new")
        copy_image(MemorySource(new), LayoutDestination(layout, "b"))
        after = json.loads((layout / "index.json").read_bytes())
        assert after["manifests"][1]["digest"] == str(new.descriptor.digest)
        after["manifests"][1] = document["manifests"][1]
        assert after == document

    def test_without_a_tag_the_only_image_without_one_is_replaced(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "l", {"": image("one")})
        new = image("new")
        copy_image(MemorySource(new), LayoutDestination(layout))
        assert [e["digest"] for e in read_index(layout)] == [str(new.descriptor.digest)]

    @pytest.mark.parametrize("others", [{"a": "one"}, {"a": "one", "b": "two"}])
    def test_without_a_tag_other_images_are_not_joined(self, tmp_path: Path, others: dict[str, str]) -> None:
        layout = write_layout(tmp_path / "l", {tag: image(text) for tag, text in others.items()})
        with pytest.raises(UsageError, match="holds other images"):
            LayoutDestination(layout).__enter__()

    def test_a_directory_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(UsageError, match="neither empty nor an OCI layout"):
            LayoutDestination(tmp_path, "1").__enter__()
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_file_is_not_a_layout(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("")
        with pytest.raises(UsageError, match="is not a directory"):
            LayoutDestination(tmp_path / "f", "1").__enter__()

    def test_blobs_of_a_layout_on_the_same_disk_are_shared(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "l", {"1": made})
        copy_image(LayoutSource(layout), LayoutDestination(tmp_path / "m", "1"))
        first = made.layers[0].descriptor
        assert blob_file(layout, first).samefile(blob_file(tmp_path / "m", first))
        assert_valid_image(tmp_path / "m", "1")

    def test_copying_within_a_layout_adds_only_a_name(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "l", {"1": image()})
        before = sorted(p.stat().st_ino for p in (layout / "blobs/sha256").iterdir() if p.stat().st_size > 2000)
        copy_image(LayoutSource(layout, "1"), LayoutDestination(layout, "2"))
        assert before == sorted(p.stat().st_ino for p in (layout / "blobs/sha256").iterdir() if p.stat().st_size > 2000)
        assert tags(layout) == ["1", "2"]

    @pytest.mark.parametrize("linked", [True, False])
    def test_a_blob_with_another_digest_is_refused_and_nothing_stays(self, tmp_path: Path, linked: bool) -> None:
        made = image()
        layout = write_layout(tmp_path / "l", {"1": made})
        bad = made.layers[0].descriptor
        blob_file(layout, bad).write_bytes(bytes(bad.size))
        source: Source = LayoutSource(layout)
        if not linked:
            blobs = {**made.blobs, bad.digest: bytes(bad.size)}
            source = MemorySource(Image(made.descriptor, made.raw, blobs))
        with pytest.raises(IntegrityError, match="digest"):
            copy_image(source, LayoutDestination(tmp_path / "m/n", "1"))
        assert not (tmp_path / "m").exists()

    def test_a_blob_that_never_ends_is_cut(self, tmp_path: Path) -> None:
        made = image()
        layer = made.layers[0].descriptor

        class Endless(MemorySource):
            @contextmanager
            def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
                yield Zeros()

        with (
            LayoutDestination(tmp_path / "m", "1") as destination,
            pytest.raises(IntegrityError, match="has more than"),
        ):
            destination.copy_blob(layer, Endless(made))

    def test_a_damaged_blob_that_is_there_is_replaced(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "l", {"1": made})
        blob_file(layout, made.layers[0].descriptor).write_bytes(b"half")
        copy_image(MemorySource(made), LayoutDestination(layout, "2"))
        assert_valid_image(layout, "1")
        assert_valid_image(layout, "2")

    def test_leaving_without_publishing_changes_nothing(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "l", {"1": image()})
        before = sorted(str(p) for p in layout.rglob("*"))
        new = image("new")
        with LayoutDestination(layout, "2") as destination:
            destination.copy_blob(new.layers[0].descriptor, MemorySource(new))
        assert sorted(str(p) for p in layout.rglob("*")) == before

    def test_a_local_file_is_checked_too(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"other")
        with (
            LayoutDestination(tmp_path / "m", "1") as destination,
            pytest.raises(IntegrityError, match="has the digest"),
        ):
            destination.write_blob(describe(b"bytes", "x"), tmp_path / "f")

    def test_a_damaged_index_is_not_overwritten(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "l", {"1": image()})
        (layout / "index.json").write_text("{")
        with pytest.raises(ImageError, match=r"index\.json is unusable"):
            copy_image(MemorySource(image("new")), LayoutDestination(layout, "2"))
        assert (layout / "index.json").read_text() == "{"

    def test_parallel_publishers_lose_no_entry(self, tmp_path: Path) -> None:
        def one(number: int) -> None:
            copy_image(MemorySource(image(f"text {number}")), LayoutDestination(tmp_path / "l", f"v{number}"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(16)))
        assert sorted(tags(tmp_path / "l")) == sorted(f"v{n}" for n in range(16))
        for n in range(16):
            assert_valid_image(tmp_path / "l", f"v{n}")
        assert sorted(p.name for p in (tmp_path / "l").iterdir()) == ["blobs", "index.json", "oci-layout"]

    def test_a_killed_run_leaves_nothing_that_looks_like_an_image(self, tmp_path: Path) -> None:
        script = (
            "import sys, time; from pathlib import Path\n"
            "from copacetic.oci.layout import LayoutDestination\n"
            "from support.image.images import *\n"
            "made = make_image([make_layer({'a': 'b'})])\n"
            "with LayoutDestination(Path(sys.argv[1]), '1') as d:\n"
            "    for blob in made.layers: d.copy_blob(blob.descriptor, MemorySource(made))\n"
            "    d.write_manifest(made.descriptor, made.raw); print('ready', flush=True); time.sleep(60)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, str(tmp_path / "l")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGKILL)
        names = [p.name for p in (tmp_path / "l").iterdir()]
        assert len(names) == 1
        assert names[0].startswith(".copa-")
        copy_image(MemorySource(image()), LayoutDestination(tmp_path / "l", "2"))
        assert sorted(p.name for p in (tmp_path / "l").iterdir()) == ["blobs", "index.json", "oci-layout"]
        assert_valid_image(tmp_path / "l", "2")

    @pytest.mark.system
    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
    def test_a_small_disk_fills_up_with_one_clear_error(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "small") as disk:
            big = make_image([make_layer({"big": os.urandom(3 << 20)}, compression="none")])
            with pytest.raises(StorageError, match="No space left on device"):
                copy_image(MemorySource(big), LayoutDestination(disk / "l", "1"))
            assert list(disk.iterdir()) == []

    def test_a_directory_without_permission_is_said(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o555)
            user = without_rights() if os.geteuid() == 0 else nullcontext()
            with user, pytest.raises(StorageError, match="Permission denied"):
                copy_image(MemorySource(image()), LayoutDestination(Path(folder, "l"), "1"))


class Zeros:
    def read(self, size: int, /) -> bytes:
        return bytes(size)


@pytest.mark.system
class TestOtherTools:
    def test_skopeo_reads_what_was_written(self, tmp_path: Path) -> None:
        layers = [make_layer({"etc/": "", "etc/name": "x"}, compression=c) for c in ("none", "gzip", "zstd")]
        made = make_image(layers)
        copy_image(MemorySource(made), LayoutDestination(tmp_path / "l", "1"))
        shown = json.loads(skopeo("inspect", f"oci:{tmp_path}/l:1"))
        assert shown["Digest"] == str(made.descriptor.digest)
        skopeo("copy", f"oci:{tmp_path}/l:1", f"dir:{tmp_path}/d")

    def test_skopeo_copies_a_whole_index(self, tmp_path: Path) -> None:
        made = make_index([image("one"), image("two", platform="linux/arm64")])
        copy_image(MemorySource(made), LayoutDestination(tmp_path / "l", "1"))
        skopeo("copy", "--all", f"oci:{tmp_path}/l:1", f"oci:{tmp_path}/m:1")
        assert_valid_image(tmp_path / "m", "1")

    def test_umoci_unpacks_what_was_written(self, tmp_path: Path) -> None:
        copy_image(MemorySource(image("hello")), LayoutDestination(tmp_path / "l", "1"))
        umoci("unpack", "--rootless", "--image", f"{tmp_path}/l:1", tmp_path / "bundle")
        assert (tmp_path / "bundle/rootfs/etc/name").read_text() == "hello"

    def test_what_skopeo_wrote_is_read(self, tmp_path: Path) -> None:
        made = image()
        write_layout(tmp_path / "l", {"1": made})
        skopeo("copy", f"oci:{tmp_path}/l:1", f"oci:{tmp_path}/m:x-1.2")
        assert LayoutSource(tmp_path / "m", "x-1.2").root()[1] == made.raw
