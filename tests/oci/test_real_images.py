# SPDX-License-Identifier: Apache-2.0
"""Layouts and archives that other projects made."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from copacetic.errors import CopaError, NotFoundError, UnsupportedImageError, UsageError
from copacetic.oci import Reference
from copacetic.oci.archive import OciArchiveSource
from copacetic.oci.dockerarchive import DockerArchiveDestination, DockerArchiveSource
from copacetic.oci.layout import LayoutDestination, LayoutSource
from support.image.images import MemoryDestination, assert_valid_image, copy_image, fixture, skopeo

LAYOUTS = [
    ("images/apko/out", ""),
    ("images/apko/out_on_top", ""),
    ("images/busybox/glibc-amd64", "busybox:1.38.0-glibc"),
    ("images/regclient/testdata/testrepo", "v1"),
    ("images/regclient/testdata/testrepo", "b3"),
    ("images/stereoscope/multi/pkg/image/oci/testdata/valid_oci_dir", ""),
    ("images/stereoscope/multi/pkg/image/oci/testdata/multiplatform_oci_dir", ""),
]


@pytest.mark.parametrize(("path", "tag"), LAYOUTS)
def test_a_real_layout_is_copied_unchanged(tmp_path: Path, path: str, tag: str) -> None:
    source = LayoutSource(fixture(path), tag)
    started = time.monotonic()
    copy_image(source, LayoutDestination(tmp_path / "l", "copy"))
    assert time.monotonic() - started < 30
    assert LayoutSource(tmp_path / "l", "copy").root()[1] == source.root()[1]
    assert_valid_image(tmp_path / "l", "copy")


@pytest.mark.parametrize("case", ["invalid_file", "no_manifests", "valid_manifest"])
def test_a_real_broken_layout_is_refused(case: str) -> None:
    source = LayoutSource(fixture("images/stereoscope/multi/pkg/image/oci/testdata") / case)
    with pytest.raises(CopaError):
        copy_image(source, MemoryDestination())


@pytest.mark.parametrize("path", ["images/stereoscope/valid-oci.tar", "images/ggcr/hello-world-v25.tar"])
def test_a_real_archive_is_read_or_refused_clearly(tmp_path: Path, path: str) -> None:
    source = OciArchiveSource(fixture(path))
    if "v25" in path:  # docker made its index.json empty, as the image was never pushed
        with pytest.raises(NotFoundError, match="holds no image"):
            source.root()
        return
    copy_image(source, LayoutDestination(tmp_path / "l", "1"))
    assert_valid_image(tmp_path / "l", "1")


ARCHIVES = [
    "ggcr/hello-world-v25.tar",
    "ggcr/mutate_test_new_hc.tar",
    "ggcr/overwritten_file.tar",
    "ggcr/source_image_with_empty_layer_history.tar",
    "ggcr/test_image_1.tar",
    "ggcr/whiteout_image.tar",
    "containers-image/almostempty.tar",
    "osv-scalibr/basic.tar",
    "osv-scalibr/symlink-attack.tar",
]


@pytest.mark.parametrize("path", ARCHIVES)
def test_a_real_archive_is_copied(tmp_path: Path, path: str) -> None:
    source = DockerArchiveSource(fixture(f"images/{path}"))
    copy_image(source, LayoutDestination(tmp_path / "l", "1"))
    assert_valid_image(tmp_path / "l", "1")
    copy_image(source, DockerArchiveDestination(tmp_path / "a.tar", Reference.parse("copy:1")))
    copy_image(DockerArchiveSource(tmp_path / "a.tar"), LayoutDestination(tmp_path / "m", "1"))
    assert_valid_image(tmp_path / "m", "1")


def test_a_real_archive_of_several_images_wants_a_choice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images") as caught:
        DockerArchiveSource(fixture("images/ggcr/test_bundle.tar")).root()
    first = str(caught.value.hint).split("it has ")[1].split(",")[0]
    source = DockerArchiveSource(fixture("images/ggcr/test_bundle.tar"), Reference.parse(first))
    copy_image(source, LayoutDestination(tmp_path / "l"))
    assert_valid_image(tmp_path / "l")


def test_a_real_archive_without_manifest_is_refused() -> None:
    with pytest.raises(UnsupportedImageError, match=r"before 1\.10"):
        DockerArchiveSource(fixture("images/ggcr/no_manifest.tar")).root()


@pytest.mark.system
def test_alpine_goes_in_and_out(tmp_path: Path) -> None:
    packed = fixture("alpine/alpine-3.10.2-docker-archive.tar.gz")
    source = DockerArchiveSource(packed)
    copy_image(source, DockerArchiveDestination(tmp_path / "a.tar", Reference.parse("alpine:copy")))
    plain_archive = tmp_path / "plain.tar"
    plain_archive.write_bytes(gzip.decompress(packed.read_bytes()))
    theirs = json.loads(skopeo("inspect", f"docker-archive:{plain_archive}"))
    ours = json.loads(skopeo("inspect", f"docker-archive:{tmp_path}/a.tar"))
    assert ours["Layers"] == theirs["Layers"]
    assert ours["Created"] == theirs["Created"]
