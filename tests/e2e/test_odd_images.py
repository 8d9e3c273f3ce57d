# SPDX-License-Identifier: Apache-2.0
"""Images that others write: indexes, entries, configs and archives of every shape, patched as the plain ones are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import copacetic
from copacetic.errors import CopaError, UnsupportedImageError, UsageError
from copacetic.oci.archive import OciArchiveSource
from copacetic.oci.layout import LayoutSource
from copacetic.oci.manifest import ARTIFACT_MANIFEST, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from copacetic.repository import RepositorySettings
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.image.images import (
    Image,
    assert_valid_image,
    describe,
    encode,
    make_image,
    make_index,
    make_layer,
    make_tar,
    read_blob,
    tar_file,
    write_layout,
)
from support.value.values import HERE

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-1+deb12u1", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@pytest.fixture
def patch(tmp_path: Path) -> Any:
    def call(location: str, to: str, **request: Any) -> copacetic.Outcome:
        settings = copacetic.Settings(cache_dir=tmp_path / "cache", repository=RepositorySettings(reach=HERE))
        return copacetic.patch(copacetic.PatchRequest(image=location, destination=to, **request), settings=settings)

    return call


def root_of(layout: Path, tag: str = "1") -> Any:
    return json.loads(LayoutSource(layout, tag).root()[1])


def indexed(*rows: tuple[Image, Mapping[str, Any]], blobs: Mapping[Any, bytes] | None = None) -> Image:
    """An index whose entries are written by hand: each image with what is laid over its descriptor."""
    entries = []
    for image, more in rows:
        entry = {**image.descriptor.to_json(), **more}
        entries.append({k: v for k, v in entry.items() if v is not None})
    made = make_index([], entries=entries)
    found = {k: v for image, _ in rows for k, v in image.blobs.items()}
    return Image(made.descriptor, made.raw, {**made.blobs, **found, **(blobs or {})})


def test_content_that_a_descriptor_carries_goes_with_the_content(
    tmp_path: Path, repository: Repository, patch: Any
) -> None:
    plain = debian_image(repository, [FOO])
    image = indexed((plain, {"data": "e30=", "urls": ["https://old.example/manifest"], "x-kept": 1}))

    patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1")

    (entry,) = root_of(tmp_path / "out")["manifests"]
    assert "data" not in entry
    assert "urls" not in entry
    assert entry["x-kept"] == 1
    assert_valid_image(tmp_path / "out", "1")


@pytest.mark.parametrize(("urls", "is_copied"), [([], True), (["https://elsewhere.example/layer"], False)])
def test_a_foreign_layer_is_left_out_only_where_somebody_else_has_it(
    tmp_path: Path, repository: Repository, patch: Any, urls: list[str], is_copied: bool
) -> None:
    image = debian_image(repository, [FOO])
    layer = {
        **image.document["layers"][0],
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        **({"urls": urls} if urls else {}),
    }
    foreign = make_image(image.layers, manifest={"layers": [layer]})

    patch(write_image(tmp_path / "in", foreign), f"oci:{tmp_path / 'out'}:1")

    assert root_of(tmp_path / "out")["layers"][0] == layer
    blob = tmp_path / "out" / "blobs" / layer["digest"].replace(":", "/")
    assert blob.exists() is is_copied


@pytest.mark.parametrize("more", [{"os.version": "1"}, {"os.features": ["nydus.remoteimage.v1"]}, {}])
def test_two_images_of_one_platform_are_both_patched(
    tmp_path: Path, repository: Repository, patch: Any, more: dict[str, Any]
) -> None:
    one, two = debian_image(repository, [FOO]), debian_image(repository, [FOO], labels={"which": "second"})
    image = indexed((one, {}), (two, {"platform": {"os": "linux", "architecture": "amd64", **more}}))

    patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1")

    before, after = image.document["manifests"], root_of(tmp_path / "out")["manifests"]
    assert len({entry["digest"] for entry in (*before, *after)}) == 4
    assert after[1]["platform"] == before[1]["platform"]
    assert_valid_image(tmp_path / "out", "1")


def test_an_image_that_says_no_platform_is_patched(tmp_path: Path, repository: Repository, patch: Any) -> None:
    image = debian_image(repository, [FOO], config={"os": "", "architecture": ""})
    image = Image(describe(image.raw, OCI_MANIFEST), image.raw, image.blobs, image.layers)

    assert patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1").changed

    assert len(root_of(tmp_path / "out")["layers"]) == 2


@pytest.mark.parametrize("platform", [None, {}, {"os": "", "architecture": ""}])
def test_the_config_tells_the_platform_that_an_entry_doesn_t(
    tmp_path: Path, repository: Repository, patch: Any, platform: object
) -> None:
    amd64 = debian_image(repository, [FOO])
    other = debian_image(repository, [FOO], platform="linux/arm64")
    image = indexed((amd64, {"platform": platform}), (other, {"platform": platform}))

    outcome = patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1", platforms=("linux/amd64",))

    assert [str(p.platform) for p in outcome.platforms] == ["linux/amd64"]
    before, after = image.document["manifests"], root_of(tmp_path / "out")["manifests"]
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, True]


def test_entries_that_are_no_images_stay_as_they_are(tmp_path: Path, repository: Repository, patch: Any) -> None:
    amd64 = debian_image(repository, [FOO])
    soci_type = "application/vnd.amazon.soci.index.v2+json"
    platform = {"os": "linux", "architecture": "amd64"}
    soci = make_image([], manifest={"artifactType": soci_type})
    config = {**soci.document["config"], "mediaType": soci_type}
    soci = make_image([], manifest={"artifactType": soci_type, "config": config})
    blob, text = encode({"listed": True}), b"only a file"
    artifact = encode({"mediaType": ARTIFACT_MANIFEST, "blobs": [describe(blob, "a/b").to_json()]})
    documents = [describe(artifact, ARTIFACT_MANIFEST), describe(text, "text/plain")]
    image = indexed(
        (amd64, {}),
        (soci, {"artifactType": soci_type, "platform": platform}),
        *((Image(one, b"", {}), {}) for one in documents),
        blobs={documents[0].digest: artifact, documents[1].digest: text, describe(blob, "a/b").digest: blob},
    )

    patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1")

    before, after = image.document["manifests"], root_of(tmp_path / "out")["manifests"]
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, True, True, True]
    for entry in (*before[1:], describe(blob, "a/b").to_json()):
        assert read_blob(tmp_path / "out", entry) == read_blob(tmp_path / "in", entry)


def test_an_index_in_an_index_is_patched(tmp_path: Path, repository: Repository, patch: Any) -> None:
    inner = make_index([debian_image(repository, [FOO])], annotations={"inner": "1"})
    other = make_index([make_image([make_layer({"a": "b"})], platform="windows/amd64")])

    patch(write_image(tmp_path / "in", make_index([inner, other])), f"oci:{tmp_path / 'out'}:1")

    after = root_of(tmp_path / "out")["manifests"]
    assert after[1] == other.descriptor.to_json()
    patched = json.loads(read_blob(tmp_path / "out", after[0]))
    assert patched["annotations"] == {"inner": "1"}
    (image,) = patched["manifests"]
    assert len(json.loads(read_blob(tmp_path / "out", image))["layers"]) == 2


def test_indexes_nested_without_end_are_refused(tmp_path: Path, repository: Repository, patch: Any) -> None:
    image = debian_image(repository, [FOO])
    for _ in range(6):
        image = make_index([image])
    with pytest.raises(CopaError, match="nested more than 3 deep") as caught:
        patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_of_a_sparse_index_the_platform_that_is_there_is_patched(
    tmp_path: Path, repository: Repository, patch: Any
) -> None:
    missing = make_image([make_layer({"a": "b"})], platform="linux/arm64")
    image = indexed((debian_image(repository, [FOO]), {}), (Image(missing.descriptor, b"", {}), {}))
    location = write_image(tmp_path / "in", image)

    patch(location, f"oci:{tmp_path / 'out'}:1", platforms=("linux/amd64",))

    after = root_of(tmp_path / "out")["manifests"]
    assert after[1] == image.document["manifests"][1]
    assert len(json.loads(read_blob(tmp_path / "out", after[0]))["layers"]) == 2
    with pytest.raises(CopaError, match="which the index lists as linux/arm64") as caught:
        patch(location, f"oci:{tmp_path / 'whole'}:1")
    assert caught.value.hint == "choose what is there with --platform"


def test_a_layout_that_is_one_image_s_index_needs_no_tag(tmp_path: Path, repository: Repository, patch: Any) -> None:
    images = {"a": debian_image(repository, [FOO]), "b": debian_image(repository, [FOO], platform="linux/arm64")}
    layout = write_layout(tmp_path / "in", images)
    document = json.loads((layout / "index.json").read_text())
    for entry in document["manifests"]:
        del entry["annotations"]
    (layout / "index.json").write_bytes(encode(document))

    patch(f"oci:{layout}", f"oci:{tmp_path / 'out'}:1", platforms=("linux/amd64",))

    after = root_of(tmp_path / "out")
    assert after["manifests"][1] == document["manifests"][1]
    assert after["manifests"][0]["digest"] != document["manifests"][0]["digest"]


def test_names_of_docker_25_tell_images_with_one_tag_apart(tmp_path: Path, repository: Repository, patch: Any) -> None:
    layout = write_layout(tmp_path / "in", {"a": debian_image(repository, [FOO]), "b": make_image([])})
    document = json.loads((layout / "index.json").read_text())
    for entry, name in zip(document["manifests"], ("first", "second"), strict=True):
        entry["annotations"] = {
            "org.opencontainers.image.ref.name": "latest",
            "io.containerd.image.name": f"docker.io/library/{name}:latest",
        }
    (layout / "index.json").write_bytes(encode(document))

    for name in ("first:latest", "docker.io/library/first:latest"):
        assert patch(f"oci:{layout}:{name}", f"oci:{tmp_path / 'out'}:1").changed
    with pytest.raises(UsageError, match="2 images with the tag latest") as caught:
        patch(f"oci:{layout}:latest", f"oci:{tmp_path / 'out'}:1")
    assert caught.value.hint == ("append :TAG; it has docker.io/library/first:latest, docker.io/library/second:latest")


def saved(path: Path, rows: list[tuple[Image, list[str]]]) -> Path:
    members = {}
    documents = []
    for image, tags in rows:
        config = encode(image.config)
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        layers = [f"{layer.diff_id.encoded}/layer.tar" for layer in image.layers]
        members[name] = config
        members |= {at: layer.plain for at, layer in zip(layers, image.layers, strict=True)}
        documents.append({"Config": name, "RepoTags": tags, "Layers": layers})
    members["manifest.json"] = encode(documents)
    path.write_bytes(make_tar([tar_file(name, data) for name, data in members.items()]))
    return path


def test_rows_of_one_name_in_a_docker_archive_are_platforms(tmp_path: Path, repository: Repository, patch: Any) -> None:
    amd64, arm64 = debian_image(repository, [FOO]), debian_image(repository, [FOO], platform="linux/arm64")
    archive = saved(tmp_path / "a.tar", [(arm64, ["web:1"]), (amd64, ["web:1"])])

    outcome = patch(
        f"docker-archive:{archive}:web:1", f"docker-archive:{tmp_path / 'b.tar'}:web:2", platforms=("linux/amd64",)
    )

    assert [str(platform.platform) for platform in outcome.platforms] == ["linux/amd64"]
    assert outcome.changed
    with pytest.raises(UsageError, match="2 images to choose from"):
        patch(f"docker-archive:{archive}:web:1", f"docker-archive:{tmp_path / 'b.tar'}:web:2")


def test_two_names_of_one_image_in_a_docker_archive_are_one(tmp_path: Path, repository: Repository, patch: Any) -> None:
    image = debian_image(repository, [FOO])
    archive = saved(tmp_path / "a.tar", [(image, ["web:1"]), (image, ["web:stable"])])
    assert patch(f"docker-archive:{archive}", f"oci:{tmp_path / 'out'}:1").changed


def with_sha512_layer(image: Image) -> Image:
    (layer,) = image.layers
    digest = f"sha512:{hashlib.sha512(layer.blob).hexdigest()}"
    made = make_image(image.layers, manifest={"layers": [{**layer.descriptor.to_json(), "digest": digest}]})
    from copacetic.oci import Digest

    return Image(made.descriptor, made.raw, {**made.blobs, Digest.parse(digest): layer.blob}, made.layers)


def test_blobs_with_long_digests_fit_into_archives(tmp_path: Path, repository: Repository, patch: Any) -> None:
    image = with_sha512_layer(debian_image(repository, [FOO]))
    location = write_image(tmp_path / "in", image)

    patch(location, f"oci-archive:{tmp_path / 'a.tar'}:1")
    patch(location, f"docker-archive:{tmp_path / 'b.tar'}:web:1")

    source = OciArchiveSource(tmp_path / "a.tar", "1")
    layers = json.loads(source.root()[1])["layers"]
    assert layers[0] == image.document["layers"][0]
    assert patch(f"oci-archive:{tmp_path / 'a.tar'}:1", f"oci:{tmp_path / 'again'}:1").changed is False


def test_a_docker_archive_says_why_it_can_t_hold_sha512_layers(
    tmp_path: Path, repository: Repository, patch: Any
) -> None:
    image = debian_image(repository, [FOO])
    diff_id = f"sha512:{hashlib.sha512(image.layers[0].plain).hexdigest()}"
    odd = make_image(image.layers, config={"rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    with pytest.raises(UnsupportedImageError, match="docker knows layers by their SHA-256"):
        patch(write_image(tmp_path / "in", odd), f"docker-archive:{tmp_path / 'b.tar'}:web:1")
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.parametrize(("history", "rows"), [(None, 2), ([], 2), ([{"empty_layer": True}], 3), ([{}], 2)])
def test_the_history_tells_of_every_layer(
    tmp_path: Path, repository: Repository, patch: Any, history: object, rows: int
) -> None:
    patch(
        write_image(tmp_path / "in", debian_image(repository, [FOO], config={"history": history})),
        f"oci:{tmp_path / 'out'}:1",
    )

    document = root_of(tmp_path / "out")
    after = json.loads(read_blob(tmp_path / "out", document["config"]))
    told = [row for row in after["history"] if not row.get("empty_layer")]
    assert len(told) == len(document["layers"])
    assert len(after["history"]) == rows
    assert told[-1]["comment"] == "copacetic"


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2023-11-14T20:00:00-10:00", "2023-11-14T20:00:00-10:00"),
        ("2023-11-15T08:13:19+10:00", "2023-11-14T22:13:20Z"),
        ("2033-01-01T00:00:00.123456789Z", "2033-01-01T00:00:00.123456789Z"),
        ("yesterday", "2023-11-14T22:13:20Z"),
        ("2033-01-01t00:00:00z", "2023-11-14T22:13:20Z"),
        ("2033-13-41T00:00:00Z", "2023-11-14T22:13:20Z"),
    ],
)
def test_the_result_is_never_older_than_its_base(
    tmp_path: Path, repository: Repository, patch: Any, created: str, expected: str
) -> None:
    image = debian_image(repository, [FOO], config={"created": created})
    patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1", epoch=1_700_000_000)
    after = json.loads(read_blob(tmp_path / "out", root_of(tmp_path / "out")["config"]))
    assert after["created"] == after["history"][-1]["created"] == expected


def test_the_failure_of_one_platform_is_not_that_of_the_others(
    tmp_path: Path, repository: Repository, patch: Any
) -> None:
    broken = make_image([make_layer({"etc/hostname": "x"})], platform="linux/arm64")
    location = write_image(tmp_path / "in", make_index([broken, debian_image(repository, [FOO])]))

    with pytest.raises(UnsupportedImageError, match="^linux/arm64: .*holds no operating system"):
        patch(location, f"oci:{tmp_path / 'out'}:1")
    assert not (tmp_path / "out").exists()
    outcome = patch(location, f"oci:{tmp_path / 'out'}:1", ignore_errors=True)

    assert [platform.changed for platform in outcome.platforms] == [False, True]
    assert "failed, and stays as it is: " in outcome.platforms[0].notes[0]
    assert root_of(tmp_path / "out")["manifests"][0] == broken.descriptor.to_json()


def test_an_encrypted_layer_and_a_broken_manifest_say_of_which_image(
    tmp_path: Path, repository: Repository, patch: Any
) -> None:
    layer = make_layer({"a": "b"})
    row = {**layer.descriptor.to_json(), "mediaType": f"{OCI_LAYER}+gzip+encrypted"}
    encrypted = write_image(tmp_path / "one", make_image([layer], manifest={"layers": [row]}))
    with pytest.raises(UnsupportedImageError, match=r"one:1: the layer sha256:.* is encrypted"):
        patch(encrypted, f"oci:{tmp_path / 'out'}:1")
    odd = Image(describe(b"<html>", OCI_INDEX), b"<html>", {describe(b"<html>", OCI_INDEX).digest: b"<html>"})
    with pytest.raises(CopaError, match=r"two:1: the index is not JSON"):
        patch(write_image(tmp_path / "two", odd), f"oci:{tmp_path / 'out'}:1")


def test_a_config_with_a_broken_character_is_read_as_others_read_it(
    tmp_path: Path, repository: Repository, patch: Any
) -> None:
    whole = debian_image(repository, [FOO], labels={"who": "Jos?"})
    raw = encode(whole.config).replace(b"Jos?", b"Jos\xe9")
    config = {**whole.document["config"], **describe(raw, whole.document["config"]["mediaType"]).to_json()}
    image = make_image(whole.layers, manifest={"config": config})
    image = Image(image.descriptor, image.raw, {**image.blobs, describe(raw, "").digest: raw}, image.layers)

    patch(write_image(tmp_path / "in", image), f"oci:{tmp_path / 'out'}:1")

    after = json.loads(read_blob(tmp_path / "out", root_of(tmp_path / "out")["config"]))
    assert after["config"]["Labels"]["who"] == "Jos\ufffd"
