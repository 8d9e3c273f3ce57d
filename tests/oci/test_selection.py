# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from copacetic.errors import UsageError
from copacetic.oci import Platform
from copacetic.oci.dockerarchive import DockerArchiveDestination, DockerArchiveSource
from copacetic.oci.selection import PlatformSource
from support.image.images import MemorySource, copy_image, make_attestation, make_image, make_index, make_layer

AMD = make_image([make_layer({"a": "amd"})])
ARM = make_image([make_layer({"a": "arm"})], platform="linux/arm64/v8")
WINDOWS = make_image([make_layer({"a": "win"})], platform="windows/amd64")
BOTH = MemorySource(make_index([AMD, ARM, make_attestation(AMD)]))


@pytest.mark.parametrize(("platform", "image"), [("linux/amd64", AMD), ("linux/arm64", ARM)])
def test_a_platform_selects_its_image(tmp_path: Path, platform: str, image: object) -> None:
    source = PlatformSource(BOTH, Platform.parse(platform))
    assert source.root()[1] == getattr(image, "raw", None)
    copy_image(source, DockerArchiveDestination(tmp_path / "a.tar"))
    assert DockerArchiveSource(tmp_path / "a.tar").root()


def test_a_single_image_passes_through() -> None:
    assert PlatformSource(MemorySource(AMD)).root() == (AMD.descriptor, AMD.raw)


def test_the_only_linux_image_needs_no_platform() -> None:
    index = make_index([WINDOWS, ARM, make_attestation(ARM)])
    assert PlatformSource(MemorySource(index)).root()[1] == ARM.raw


@pytest.mark.parametrize(
    ("platform", "text"),
    [(None, "has 2 images to choose from"), (Platform.parse("linux/s390x"), "has no image for linux/s390x")],
)
def test_no_image_or_several_say_what_there_is(platform: Platform | None, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        PlatformSource(BOTH, platform).root()
    assert caught.value.hint == "choose one with --platform; it has linux/amd64, linux/arm64/v8"
