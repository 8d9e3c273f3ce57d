# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copacetic.errors import CopaError, ImageError, IntegrityError, NotFoundError, StorageError, UsageError
from copacetic.oci.archive import OciArchiveDestination, OciArchiveSource
from copacetic.oci.layout import LayoutDestination
from support.floors import accepting, refusal
from support.hostile.mutations import Mutate, change_bytes, change_tar
from support.image.images import (
    Image,
    MemoryDestination,
    MemorySource,
    assert_valid_image,
    copy_image,
    make_image,
    make_index,
    make_layer,
    pack_directory,
    skopeo,
    small_disk,
    tar_file,
    umoci,
    write_layout,
)


def image(text: str = "one", platform: str = "linux/amd64") -> Image:
    layers = [make_layer({"etc/": "", "etc/name": text}), make_layer({"more": text * 50}, compression="zstd")]
    return make_image(layers, platform=platform)


def archive(folder: Path, images: dict[str, Image]) -> Path:
    """An archived layout made with `tarfile`."""
    return pack_directory(write_layout(folder / "layout", images), folder / "layout.tar")


def unpack(path: Path, folder: Path) -> Path:
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder


class TestReading:
    def test_a_copy_is_the_same(self, tmp_path: Path) -> None:
        made = make_index([image("one"), image("two", "linux/arm64")])
        path = archive(tmp_path, {"1": made})
        copy_image(OciArchiveSource(path, "1"), LayoutDestination(tmp_path / "l", "1"))
        assert_valid_image(tmp_path / "l", "1")
        assert OciArchiveSource(path).root()[1] == made.raw

    def test_tags_select(self, tmp_path: Path) -> None:
        one, two = image("one"), image("two")
        path = archive(tmp_path, {"a": one, "b": two})
        assert OciArchiveSource(path, "b").root()[1] == two.raw
        with pytest.raises(UsageError, match="has 2 images"):
            OciArchiveSource(path).root()

    def test_a_gzipped_archive_is_read(self, tmp_path: Path) -> None:
        made = image()
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(archive(tmp_path, {"1": made}).read_bytes()))
        target = MemoryDestination()
        copy_image(OciArchiveSource(path), target)
        assert target.published is not None
        assert target.published.raw == made.raw

    def test_names_that_begin_with_a_dot_are_understood(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "layout", {"": made})
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(layout, ".")
        copy_image(OciArchiveSource(tmp_path / "a.tar"), MemoryDestination())

    def test_several_blobs_are_read_at_once(self, tmp_path: Path) -> None:
        made = image()
        source = OciArchiveSource(archive(tmp_path, {"": made}))
        source.root()

        def read(number: int) -> bool:
            layer = made.layers[number % 2]
            with source.open_blob(layer.descriptor) as stream:
                return b"".join(iter(lambda: stream.read(64), b"")) == layer.blob

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(50)))

    def test_replacing_the_file_does_not_disturb_its_reader(self, tmp_path: Path) -> None:
        made = image()
        path = archive(tmp_path, {"": made})
        source = OciArchiveSource(path)
        source.root()
        (tmp_path / "new").write_bytes(b"")
        (tmp_path / "new").replace(path)
        copy_image(source, MemoryDestination())

    def test_an_absent_file_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="there is no archive"):
            OciArchiveSource(tmp_path / "nothing.tar").root()

    def test_a_directory_is_not_an_archive(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="is not a regular file"):
            OciArchiveSource(tmp_path).root()

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"", "it has no index.json"),
            (b"not a tar" * 100, "is not a usable tar file"),
            (lzma.compress(b"x"), "compressed with xz"),
            (gzip.compress(b"x" * 2000, mtime=0)[:-9], "can't be decompressed"),
        ],
    )
    def test_something_else_is_refused(self, tmp_path: Path, content: bytes, text: str) -> None:
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(ImageError, match=text):
            OciArchiveSource(tmp_path / "a.tar").root()

    def test_a_truncated_archive_is_refused(self, tmp_path: Path) -> None:
        path = archive(tmp_path, {"": image()})
        with tarfile.open(path) as tar:
            last = [m for m in tar.getmembers() if m.size > 100][-2]
        os.truncate(path, last.offset_data + 50)
        with pytest.raises(ImageError, match="is cut off"):
            OciArchiveSource(path).root()

    def test_a_missing_blob_is_not_found(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "layout", {"": made})
        (layout / "blobs/sha256" / made.layers[0].descriptor.digest.encoded).unlink()
        with pytest.raises(NotFoundError, match="has no blobs/sha256/"):
            copy_image(OciArchiveSource(pack_directory(layout, tmp_path / "a.tar")), MemoryDestination())

    def test_a_blob_of_another_size_is_refused(self, tmp_path: Path) -> None:
        made = image()
        layout = write_layout(tmp_path / "layout", {"": made})
        (layout / "blobs/sha256" / made.layers[0].descriptor.digest.encoded).write_bytes(b"x")
        with pytest.raises(IntegrityError, match="has 1 bytes instead of"):
            copy_image(OciArchiveSource(pack_directory(layout, tmp_path / "a.tar")), MemoryDestination())

    def test_a_docker_archive_is_pointed_to_its_own_name(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            info, data = tar_file("manifest.json", "[]")
            tar.addfile(info, io.BytesIO(data))
        with pytest.raises(ImageError) as caught:
            OciArchiveSource(tmp_path / "a.tar").root()
        assert "docker-archive:FILE" in str(caught.value.hint)

    def test_a_climbing_member_is_refused(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            info, data = tar_file("../../etc/passwd", "x")
            tar.addfile(info, io.BytesIO(data))
        with pytest.raises(ImageError, match="climbs"):
            OciArchiveSource(tmp_path / "a.tar").root()

    @accepting(0.1)
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(chance=st.randoms(use_true_random=False), change=st.sampled_from([change_bytes, change_tar, change_tar]))
    def test_a_damaged_archive_gives_only_our_errors(self, tmp_path: Path, chance: Random, change: Mutate) -> None:
        path = tmp_path / "layout.tar"
        whole = path.read_bytes() if path.exists() else archive(tmp_path, {"": image()}).read_bytes()
        damaged = change(chance, whole)
        (tmp_path / "damaged.tar").write_bytes(
            damaged[: chance.choice([len(damaged)] * 3 + [chance.randrange(len(damaged))])]
        )
        with refusal(CopaError):
            copy_image(OciArchiveSource(tmp_path / "damaged.tar"), MemoryDestination())


class TestWriting:
    def test_what_is_written_is_a_layout(self, tmp_path: Path) -> None:
        made = make_index([image("one"), image("two", "linux/arm64")])
        published = copy_image(MemorySource(made), OciArchiveDestination(tmp_path / "a.tar", "1"))
        assert published.reference == f"oci-archive:{tmp_path}/a.tar:1@{made.descriptor.digest}"
        assert_valid_image(unpack(tmp_path / "a.tar", tmp_path / "l"), "1")
        assert [p.name for p in tmp_path.iterdir() if p.name != "l"] == ["a.tar"]

    def test_reading_back_gives_the_same(self, tmp_path: Path) -> None:
        made = image()
        copy_image(MemorySource(made), OciArchiveDestination(tmp_path / "a.tar"))
        target = MemoryDestination()
        copy_image(OciArchiveSource(tmp_path / "a.tar"), target)
        assert target.blobs == dict(made.blobs)

    def test_an_image_that_is_there_already_is_replaced_at_the_end(self, tmp_path: Path) -> None:
        copy_image(MemorySource(image("old")), OciArchiveDestination(tmp_path / "a.tar"))
        before = (tmp_path / "a.tar").read_bytes()
        new = image("new")
        with OciArchiveDestination(tmp_path / "a.tar") as destination:
            destination.copy_blob(new.layers[0].descriptor, MemorySource(new))
            assert (tmp_path / "a.tar").read_bytes() == before
        assert (tmp_path / "a.tar").read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]

    def test_an_archive_can_be_copied_onto_itself(self, tmp_path: Path) -> None:
        made = image()
        path = tmp_path / "a.tar"
        copy_image(MemorySource(made), OciArchiveDestination(path, "1"))
        copy_image(OciArchiveSource(path, "1"), OciArchiveDestination(path, "2"))
        assert OciArchiveSource(path, "2").root()[1] == made.raw

    def test_a_damaged_blob_leaves_no_file(self, tmp_path: Path) -> None:
        made = image()
        bad = made.layers[1].descriptor
        source = MemorySource(Image(made.descriptor, made.raw, {**made.blobs, bad.digest: bytes(bad.size)}))
        with pytest.raises(IntegrityError, match="has the digest"):
            copy_image(source, OciArchiveDestination(tmp_path / "a.tar"))
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(CopaError, match="No such file or directory"):
            copy_image(MemorySource(image()), OciArchiveDestination(tmp_path / "no/a.tar"))

    def test_the_permissions_follow_the_umask(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_text("")
        copy_image(MemorySource(image()), OciArchiveDestination(tmp_path / "a.tar"))
        assert (tmp_path / "a.tar").stat().st_mode == (tmp_path / "other").stat().st_mode

    @pytest.mark.system
    def test_a_small_disk_fills_up_with_one_clear_error(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "small") as disk:
            big = make_image([make_layer({"big": os.urandom(3 << 20)}, compression="none")])
            with pytest.raises(StorageError, match="No space left on device"):
                copy_image(MemorySource(big), OciArchiveDestination(disk / "a.tar"))
            assert list(disk.iterdir()) == []

    @pytest.mark.system
    def test_skopeo_reads_it(self, tmp_path: Path) -> None:
        made = image()
        copy_image(MemorySource(made), OciArchiveDestination(tmp_path / "a.tar", "1"))
        shown = json.loads(skopeo("inspect", f"oci-archive:{tmp_path}/a.tar:1"))
        assert shown["Digest"] == str(made.descriptor.digest)
        skopeo("copy", f"oci-archive:{tmp_path}/a.tar:1", f"dir:{tmp_path}/d")

    @pytest.mark.system
    def test_umoci_unpacks_it(self, tmp_path: Path) -> None:
        made = make_image([make_layer({"etc/": "", "etc/name": "hello"})])
        copy_image(MemorySource(made), OciArchiveDestination(tmp_path / "a.tar", "1"))
        layout = unpack(tmp_path / "a.tar", tmp_path / "l")
        umoci("unpack", "--rootless", "--image", f"{layout}:1", tmp_path / "bundle")
        assert (tmp_path / "bundle/rootfs/etc/name").read_text() == "hello"

    @pytest.mark.system
    def test_what_skopeo_wrote_is_read(self, tmp_path: Path) -> None:
        made = image()
        write_layout(tmp_path / "l", {"1": made})
        skopeo("copy", f"oci:{tmp_path}/l:1", f"oci-archive:{tmp_path}/a.tar:v1")
        assert OciArchiveSource(tmp_path / "a.tar", "v1").root()[1] == made.raw
