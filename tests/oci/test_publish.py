# SPDX-License-Identifier: Apache-2.0
"""The same patched image into every kind of local destination, with new blobs from files, as a patch run does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from copacetic.errors import CopaError, CorruptLayerError, IntegrityError, NotFoundError
from copacetic.oci import Digest, ImageConfig, Manifest, Reference
from copacetic.oci.archive import OciArchiveDestination
from copacetic.oci.dockerarchive import DockerArchiveDestination
from copacetic.oci.layout import LayoutDestination, LayoutSource
from copacetic.oci.transport import Destination
from support.image.images import (
    Image,
    Layer,
    MemorySource,
    assert_valid_image,
    describe,
    make_image,
    make_layer,
    skopeo,
    umoci,
    write_layout,
)

KINDS: dict[str, tuple[type[Any], object]] = {
    "oci": (LayoutDestination, "1"),
    "oci-archive": (OciArchiveDestination, "1"),
    "docker-archive": (DockerArchiveDestination, Reference.parse("web:1")),
}
BASE = make_image([make_layer({"etc/": "", "etc/name": "old", "etc/stays": "same"}), make_layer({"x": "y"})])
NEW = make_layer({"etc/": "", "etc/name": "new"})


def publish(destination: Destination, base: Image, layer: Layer, scratch: Path) -> Manifest:
    source = MemorySource(base)
    manifest = Manifest.parse(base.raw)
    row = {"created": "2025-01-01T00:00:00Z", "created_by": "test"}
    config = ImageConfig.parse(base.blobs[manifest.config.digest]).with_layer(
        layer.diff_id, history=row, created="2025-01-01T00:00:00Z", labels={"patched": "yes"}
    )
    described = describe(config.raw, manifest.config.media_type)
    result = manifest.with_layer(described, layer.descriptor, annotations={"patched": "yes"})
    scratch.mkdir(exist_ok=True)
    (scratch / "config").write_bytes(config.raw)
    (scratch / "layer").write_bytes(layer.blob)
    with destination:
        for old in manifest.layers:
            destination.copy_blob(old, source)
        destination.write_blob(layer.descriptor, scratch / "layer")
        destination.write_blob(described, scratch / "config")
        destination.write_blob(described, scratch / "config")
        published = destination.publish(describe(result.raw, result.media_type), result.raw)
    assert (published.name, published.digest) == (destination.name, Digest.of(result.raw))
    return result


@pytest.mark.system
@pytest.mark.parametrize("kind", KINDS)
def test_other_tools_see_the_patched_image(tmp_path: Path, kind: str) -> None:
    make, tag = KINDS[kind]
    result = publish(make(tmp_path / "out", tag), BASE, NEW, tmp_path / "scratch")
    skopeo("copy", f"{kind}:{tmp_path}/out:{tag}", f"oci:{tmp_path}/l:1")
    document = assert_valid_image(tmp_path / "l", "1")
    assert len(document["layers"]) == 3
    if kind != "docker-archive":
        assert document["annotations"] == {"patched": "yes"}
        assert [d["digest"] for d in document["layers"]] == [str(d.digest) for d in result.layers]
    umoci("unpack", "--rootless", "--image", f"{tmp_path}/l:1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/name").read_text() == "new"
    assert (tmp_path / "bundle/rootfs/etc/stays").read_text() == "same"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_image_twice_is_the_same(tmp_path: Path, kind: str) -> None:
    make, tag = KINDS[kind]
    first = publish(make(tmp_path / "out", tag), BASE, NEW, tmp_path / "scratch")
    again = publish(make(tmp_path / "out", tag), BASE, NEW, tmp_path / "scratch")
    assert first == again


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changed_on_the_way_is_refused(tmp_path: Path, kind: str) -> None:
    make, tag = KINDS[kind]
    wrong = Layer(NEW.descriptor, NEW.blob[:-1] + b"\xff", NEW.plain)
    with pytest.raises((IntegrityError, CorruptLayerError)):
        publish(make(tmp_path / "out", tag), BASE, wrong, tmp_path / "scratch")
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_vanished_is_said(tmp_path: Path, kind: str) -> None:
    make, tag = KINDS[kind]
    with make(tmp_path / "out", tag) as destination, pytest.raises(NotFoundError, match="is gone"):
        destination.write_blob(NEW.descriptor, tmp_path / "gone")


def test_patching_a_layout_in_place_copies_no_old_layer(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "l", {"1": BASE})
    inodes = {d.digest: LayoutSource(layout).blob_path(d).stat().st_ino for d in Manifest.parse(BASE.raw).layers}
    publish(LayoutDestination(layout, "1-patched"), BASE, NEW, tmp_path / "scratch")
    assert_valid_image(layout, "1")
    assert_valid_image(layout, "1-patched")
    for layer in Manifest.parse(BASE.raw).layers:
        assert LayoutSource(layout).blob_path(layer).stat().st_ino == inodes[layer.digest]


@pytest.mark.parametrize("missing", ["config", "layer"])
def test_a_docker_archive_is_not_published_incomplete(tmp_path: Path, missing: str) -> None:
    manifest = Manifest.parse(BASE.raw)
    with DockerArchiveDestination(tmp_path / "a.tar") as destination:
        for blob in manifest.layers if missing == "config" else (manifest.config,):
            destination.copy_blob(blob, MemorySource(BASE))
        with pytest.raises(CopaError, match="was not written"):
            destination.publish(BASE.descriptor, BASE.raw)
    assert list(tmp_path.iterdir()) == []
