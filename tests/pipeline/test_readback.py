# SPDX-License-Identifier: Apache-2.0
"""The produced layer is read again from the disk: what it says of itself counts for nothing."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from copacetic.errors import CorruptLayerError, IntegrityError
from copacetic.oci import Digest
from copacetic.oci.manifest import OCI_LAYER
from copacetic.pipeline.layer import NewLayer
from copacetic.pipeline.prove.readback import ReadBack
from support.image.images import describe, make_tar, tar_file
from support.image.trees import tree
from support.value.replacing import replace

TAR = make_tar(
    [
        tar_file("opt/file", "content"),
        tar_file("opt/name", type=tarfile.LNKTYPE, linkname="opt/file"),
        tar_file("opt/link", type=tarfile.SYMTYPE, linkname="file"),
    ]
)


@pytest.fixture
def layer(tmp_path: Path) -> NewLayer:
    path = tmp_path / "layer"
    path.write_bytes(TAR)
    return NewLayer(path=path, descriptor=describe(TAR, OCI_LAYER), diff_id=Digest.of(TAR), files=3)


def test_every_name_of_a_file_has_its_checksums_and_a_link_has_none(layer: NewLayer) -> None:
    digests = {name: hashlib.new(name, b"content").hexdigest() for name in ("md5", "sha1", "sha256")}

    assert ReadBack.of(layer, ["md5", "sha1"]).checksums == {"opt/file": digests, "opt/name": digests}


def test_what_the_layer_brings_stands_over_the_image_s_files(layer: NewLayer) -> None:
    after = ReadBack.of(layer, []).stacked_on(tree({"opt/file": "old", "opt/other": "other"}))

    assert [after.read(f"opt/{name}", limit=100) for name in ("file", "link", "other")] == [
        b"content",
        b"content",
        b"other",
    ]


@pytest.mark.parametrize(
    "data", [TAR.replace(b"content", b"c0ntent"), TAR[:-512], TAR + b"\0"], ids=["other", "shorter", "longer"]
)
def test_a_file_that_is_not_what_its_descriptor_says_is_refused(layer: NewLayer, data: bytes) -> None:
    layer.path.write_bytes(data)

    with pytest.raises(IntegrityError):
        ReadBack.of(layer, ["md5"])


def test_a_layer_that_is_not_what_the_config_is_going_to_say_is_refused(layer: NewLayer) -> None:
    with pytest.raises(CorruptLayerError):
        ReadBack.of(replace(layer, diff_id=Digest.of(b"another")), ["md5"])
