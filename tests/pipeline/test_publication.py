# SPDX-License-Identifier: Apache-2.0
"""What is published is the old image with one layer more, wherever it stands in an index; all else is copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from copacetic.budget import Slots
from copacetic.errors import ImageError
from copacetic.oci import Digest, Platform
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.manifest import ARTIFACT_MANIFEST
from copacetic.pipeline.layer import NewLayer
from copacetic.pipeline.open.image import OpenedImage
from copacetic.pipeline.publish.manifest import MAX_CREATED_BY, PatchedImage, build_image, plan_hash
from copacetic.pipeline.publish.write import ImageWriter
from copacetic.updates import Plan, PlannedUpdate
from support.image.images import (
    Image,
    MemoryDestination,
    describe,
    encode,
    make_attestation,
    make_image,
    make_index,
    make_layer,
)
from support.value.jobs import open_in_memory
from support.value.replacing import replace
from support.value.values import candidate, installed, plan

FILES = {"var/lib/dpkg/status": "Package: app\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"}
APP = PlannedUpdate(installed=installed("app", "1"), candidate=candidate("app", "2"))
NEW = PlannedUpdate(installed=None, candidate=candidate("new", "1"))
PLAN = plan(APP, NEW)
MADE = make_layer({"opt/app": "2"})
EPOCH = 1_750_000_000
LATER, SAME = "2100-01-01T00:00:00Z", "2025-06-15T15:06:40Z"


@pytest.fixture
def layer(tmp_path: Path) -> NewLayer:
    path = tmp_path / "layer"
    path.write_bytes(MADE.blob)
    return NewLayer(path=path, descriptor=MADE.descriptor, diff_id=MADE.diff_id, files=1)


def config_of(made: PatchedImage) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(made.config)
    return document


def build(opened: OpenedImage, layer: NewLayer, made: Plan = PLAN, *, epoch: int = EPOCH) -> PatchedImage:
    return build_image(opened, made, layer, epoch=epoch)


# -- manifest and config -------------------------------------------------------------------------------------


def test_one_layer_and_one_line_of_history_are_added_and_all_else_stays(layer: NewLayer) -> None:
    opened = open_in_memory(
        FILES, labels={"mine": "1"}, annotations={"mine": "2"}, config={"x-odd": [1]}, manifest={"x-more": {"a": None}}
    )
    old, original = opened.variant.manifest, json.loads(opened.variant.config.raw)

    made = build(opened, layer)

    new = config_of(made)
    assert made.manifest.layers == (*old.layers, MADE.descriptor)
    assert new["rootfs"]["diff_ids"] == [*original["rootfs"]["diff_ids"], str(MADE.diff_id)]
    assert new["history"][:-1] == original["history"]
    assert new["history"][-1] == {
        "created": SAME,
        "created_by": "copa patch app=2 new=1",
        "comment": "copacetic",
    }
    changed = {"created", "history", "rootfs", "config"}
    assert {name: new[name] for name in new if name not in changed} == {
        name: original[name] for name in original if name not in changed
    }
    assert {**new["config"], "Labels": {"mine": "1"}} == original["config"]
    assert json.loads(made.manifest.raw)["x-more"] == {"a": None}
    assert made.original is opened.variant
    assert (made.descriptor.digest, made.descriptor.size) == (Digest.of(made.manifest.raw), len(made.manifest.raw))
    assert made.manifest.config.digest == Digest.of(made.config)
    assert made.descriptor.platform == opened.variant.platform


def test_labels_and_annotations_say_what_it_was_made_from_and_nothing_that_changes_by_itself(layer: NewLayer) -> None:
    opened = open_in_memory(FILES, labels={"mine": "1"}, annotations={"mine": "2"})

    made = build(opened, layer)

    lineage = {
        "sh.copa.patch.origin.name": "registry.example/web",
        "sh.copa.patch.origin.digest": str(opened.variant.digest),
        "sh.copa.patch.plan": plan_hash(PLAN),
        "sh.copa.patch.epoch": str(EPOCH),
    }
    assert config_of(made)["config"]["Labels"] == {"mine": "1", **lineage}
    assert made.manifest.annotations == {"mine": "2", **lineage}
    assert build(opened, layer).descriptor == made.descriptor


def test_a_path_on_somebody_s_disk_is_nobody_else_s_business(layer: NewLayer) -> None:
    made = build(open_in_memory(FILES, location="oci:/home/somebody/layout:1"), layer)

    assert "sh.copa.patch.origin.name" not in made.manifest.annotations
    assert b"somebody" not in made.config + made.manifest.raw


def test_a_docker_image_stays_one(layer: NewLayer) -> None:
    opened = open_in_memory(FILES, kind="docker")

    made = build(opened, layer)

    assert made.descriptor.media_type == opened.variant.descriptor.media_type
    assert made.manifest.config.media_type == opened.variant.manifest.config.media_type
    assert "annotations" not in json.loads(made.manifest.raw)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2020-01-01T00:00:00Z", SAME),
        (SAME, SAME),
        (LATER, LATER),
        ("2100-01-01T00:00:00.123456789+02:00", "2100-01-01T00:00:00.123456789+02:00"),
        ("", SAME),
        ("yesterday", SAME),
        ("9999-99-99T00:00:00Z", SAME),
        ("2100-01-01", SAME),
    ],
)
def test_the_result_is_never_older_than_its_base_and_repeats_no_date_that_is_none(
    layer: NewLayer, before: str, after: str
) -> None:
    made = config_of(build(open_in_memory(FILES, config={"created": before}), layer))

    assert (made["created"], made["history"][-1]["created"]) == (after, after)


def test_a_very_long_list_of_packages_is_cut_in_the_history(layer: NewLayer) -> None:
    def told(count: int) -> str:
        updates = [replace(APP, candidate=candidate(f"package-{number:03}", "1.2.3")) for number in range(count)]
        text: str = config_of(build(open_in_memory(FILES), layer, plan(*updates)))["history"][-1]["created_by"]
        return text

    assert len(told(10)) == len("copa patch") + 10 * len(" package-000=1.2.3")
    assert len(told(1000)) == MAX_CREATED_BY
    assert told(1000).endswith("…")


def test_the_same_packages_have_the_same_hash_in_whatever_order_and_others_another() -> None:
    assert plan_hash(plan(NEW, APP)) == plan_hash(PLAN)
    for other in (
        plan(APP),
        plan(APP, replace(NEW, candidate=candidate("new", "1.1"))),
        plan(APP, replace(NEW, candidate=candidate("new", "1", architecture="all"))),
        plan(APP, replace(NEW, candidate=replace(candidate("new", "1"), sha256="cd" * 32))),
    ):
        assert plan_hash(other) != plan_hash(PLAN)


# -- what is written -----------------------------------------------------------------------------------------


def written(opened: OpenedImage, layer: NewLayer, scratch: Path) -> tuple[MemoryDestination, Descriptor, bytes]:
    """Write what patching this variant gives."""
    scratch.mkdir()
    destination = MemoryDestination()
    writer = ImageWriter(opened.image.source, destination, Slots("test", 2), scratch)
    root, raw = writer.write(opened.image, {opened.variant.digest: build(opened, layer)})
    assert destination.published is None, "a name is given when everything is there"
    assert root.digest == Digest.of(raw)
    return destination, root, raw


def test_of_an_image_its_layers_the_new_one_and_the_config_are_written(layer: NewLayer, tmp_path: Path) -> None:
    opened = open_in_memory(FILES)

    destination, root, raw = written(opened, layer, tmp_path / "scratch")

    made = build(opened, layer)
    assert (root, raw) == (made.descriptor, made.manifest.raw)
    blobs = [*opened.variant.manifest.layers, MADE.descriptor, made.manifest.config]
    assert set(destination.blobs) == {blob.digest for blob in blobs}
    assert destination.blobs[MADE.descriptor.digest] == MADE.blob


def test_a_layer_that_only_its_publisher_may_hand_out_stays_with_him(layer: NewLayer, tmp_path: Path) -> None:
    foreign = describe(b"", "application/vnd.oci.image.layer.nondistributable.v1.tar", urls=("https://x.example/l",))
    opened = open_in_memory(FILES)
    manifest = replace(opened.variant.manifest, layers=(*opened.variant.manifest.layers, foreign))
    image = replace(opened.image, variants=(replace(opened.variant, manifest=manifest),))
    changed = replace(opened, image=image, variant=image.variants[0])

    destination, _, _ = written(changed, layer, tmp_path / "scratch")

    assert foreign.digest not in destination.blobs


OTHER = make_image([make_layer({"other": "1"})], platform="linux/arm64")


def entries(raw: bytes) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = json.loads(raw)["manifests"]
    return found


def test_in_an_index_the_entry_leads_to_the_result_and_all_others_are_copied_as_they_are(
    layer: NewLayer, tmp_path: Path
) -> None:
    images: list[Image] = []

    def indexed(image: Image) -> Image:
        images.extend([image, OTHER, make_attestation(image)])
        return make_index(images, annotations={"mine": "1"}, odd=1)

    opened = open_in_memory(FILES, index=indexed)

    destination, root, raw = written(opened, layer, tmp_path / "scratch")

    made = build(opened, layer)
    before, after = entries(opened.image.raw), entries(raw)
    assert root.media_type == opened.image.root.media_type
    assert after[0] == {**before[0], "digest": str(made.descriptor.digest), "size": made.descriptor.size}
    assert after[1:] == before[1:]
    assert {**json.loads(raw), "manifests": []} == {**json.loads(opened.image.raw), "manifests": []}
    for image in images[1:]:
        assert image.blobs.items() <= destination.blobs.items()
    assert destination.blobs[made.descriptor.digest] == made.manifest.raw
    assert images[0].descriptor.digest not in destination.blobs


def test_an_index_in_an_index_leads_to_the_result_too_and_one_without_it_stays(layer: NewLayer, tmp_path: Path) -> None:
    aside = make_index([OTHER])

    def nested(image: Image) -> Image:
        return make_index([make_index([image]), aside])

    opened = open_in_memory(FILES, index=nested)

    destination, _, raw = written(opened, layer, tmp_path / "scratch")

    inner, other = entries(raw)
    (leads_to,) = entries(destination.blobs[Digest.parse(inner["digest"])])
    assert leads_to["digest"] == str(build(opened, layer).descriptor.digest)
    assert inner["size"] == len(destination.blobs[Digest.parse(inner["digest"])])
    assert other["digest"] == str(aside.descriptor.digest)
    assert aside.blobs.items() <= destination.blobs.items()


DOCUMENT = encode({"anything": 1})
BLOB = make_layer(b"blob", compression="none")
ARTIFACT = encode({"mediaType": ARTIFACT_MANIFEST, "blobs": [BLOB.descriptor.to_json()]})


@pytest.mark.parametrize(
    ("data", "media_type", "more"),
    [
        (DOCUMENT, "application/vnd.mine+json", {}),
        (ARTIFACT, ARTIFACT_MANIFEST, {BLOB.descriptor.digest: BLOB.blob}),
        (OTHER.raw, OTHER.descriptor.media_type, OTHER.blobs),
    ],
    ids=["document", "artifact", "image"],
)
def test_what_an_entry_names_is_copied_with_all_below_and_not_missed_where_the_index_was_sparse(
    layer: NewLayer, tmp_path: Path, data: bytes, media_type: str, more: Mapping[Digest, bytes]
) -> None:
    entry = describe(data, media_type, platform=Platform.parse("unknown/unknown"))
    below = {entry.digest: data, **more}

    def indexed(image: Image, blobs: Mapping[Digest, bytes]) -> Image:
        made = make_index([image], entries=[entry.to_json()])
        return Image(made.descriptor, made.raw, {**made.blobs, **blobs})

    whole, _, raw = written(open_in_memory(FILES, index=lambda one: indexed(one, below)), layer, tmp_path / "whole")
    sparse, _, same = written(open_in_memory(FILES, index=lambda one: indexed(one, {})), layer, tmp_path / "sparse")

    assert below.items() <= whole.blobs.items()
    assert below.keys() & sparse.blobs.keys() == set()
    assert raw == same


def test_an_image_that_is_there_and_broken_is_refused(layer: NewLayer, tmp_path: Path) -> None:
    broken = describe(b"{}", OTHER.descriptor.media_type)

    def indexed(image: Image) -> Image:
        made = make_index([image], entries=[broken.to_json()])
        return Image(made.descriptor, made.raw, {**made.blobs, broken.digest: b"{}"})

    with pytest.raises(ImageError):
        written(open_in_memory(FILES, index=indexed), layer, tmp_path / "scratch")
