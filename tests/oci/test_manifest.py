# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import CopaError, ImageError, UnsupportedImageError
from copacetic.oci import Descriptor, Digest, ImageConfig, Index, Manifest
from copacetic.oci.manifest import (
    CONFIG_LIMIT,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    detect_media_type,
    is_distributable,
    layer_compression,
    layer_media_type,
)
from support.floors import accepting, refusal
from support.image.images import Image, encode, fixture, make_attestation, make_image, make_index, make_layer
from support.value.replacing import replace

CONFIG = Descriptor(media_type="application/vnd.oci.image.config.v1+json", digest=Digest.of(b"c"), size=1)
LAYER = Descriptor(media_type=f"{OCI_LAYER}+gzip", digest=Digest.of(b"l"), size=1)
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

KEYS = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "rootfs", "diff_ids", "history", "Labels"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


def changed(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A good document, with fields that are anything."""
    return st.dictionaries(KEYS, anything, max_size=2).map(lambda more: {**document, **more})


def image(**options: Any) -> Image:
    kind = options.get("kind", "oci")
    return make_image([make_layer({"a": "b"}, kind=kind), make_layer({"c": "d"}, kind=kind)], **options)


def edited(raw: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(raw)
    return document


class TestManifest:
    @pytest.mark.parametrize(("kind", "media_type"), [("oci", OCI_MANIFEST), ("docker", DOCKER_MANIFEST)])
    def test_both_kinds_are_read(self, kind: str, media_type: str) -> None:
        made = image(kind=kind)
        parsed = Manifest.parse(made.raw)
        assert parsed.media_type == media_type
        assert [d.digest for d in parsed.layers] == [layer.descriptor.digest for layer in made.layers]

    def test_a_new_layer_keeps_everything_else(self) -> None:
        extra = {"x-new": {"b": 1, "a": [None, 1.5, "\ud83d\ude00é"]}, "subject": {"digest": "kept"}}
        made = image(annotations={"old": "1", "both": "old"}, manifest=extra)
        parsed = Manifest.parse(made.raw)
        after = edited(parsed.with_layer(CONFIG, LAYER, annotations={"both": "new", "more": "2"}).raw)
        before = made.document
        assert list(after) == list(before)
        assert after["layers"] == [*before["layers"], LAYER.to_json()]
        assert after["config"] == CONFIG.to_json()
        assert after["annotations"] == {"old": "1", "both": "new", "more": "2"}
        for key in ("schemaVersion", "mediaType", "x-new", "subject"):
            assert after[key] == before[key]

    def test_editing_is_deterministic_and_leaves_the_original(self) -> None:
        parsed = Manifest.parse(image().raw)
        first = parsed.with_layer(CONFIG, LAYER, annotations={"k": "v"})
        assert first == parsed.with_layer(CONFIG, LAYER, annotations={"k": "v"})
        assert b": " not in first.raw
        assert len(parsed.layers) == 2
        assert len(first.layers) == 3

    def test_docker_manifests_get_no_annotations(self) -> None:
        after = Manifest.parse(image(kind="docker").raw).with_layer(CONFIG, LAYER, annotations={"k": "v"})
        assert "annotations" not in edited(after.raw)

    def test_an_image_without_layers_gets_its_first(self) -> None:
        made = make_image([], manifest={"layers": None})
        assert len(Manifest.parse(made.raw).with_layer(CONFIG, LAYER, annotations={}).layers) == 1

    def test_the_limit_is_exact(self) -> None:
        made = image()
        room = MANIFEST_LIMIT - len(made.raw)
        Manifest.parse(made.raw + b" " * room)
        with pytest.raises(ImageError, match="the limit is"):
            Manifest.parse(made.raw + b" " * (room + 1))

    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000, b'{"layers":[]}']
    )
    def test_something_else_is_refused(self, raw: bytes) -> None:
        with pytest.raises(ImageError):
            Manifest.parse(raw)

    def test_schema_1_is_refused_by_name(self) -> None:
        with pytest.raises(UnsupportedImageError, match="schema 1"):
            Manifest.parse(b"{}", SCHEMA1)
        with pytest.raises(UnsupportedImageError, match="schema 1"):
            Manifest.parse(b'{"schemaVersion":1,"fsLayers":[]}')

    def test_an_artifact_is_refused(self) -> None:
        with pytest.raises(UnsupportedImageError, match="not an image manifest"):
            Manifest.parse(b"{}", "application/vnd.example+json")

    def test_a_document_of_two_kinds_is_refused(self) -> None:
        made = image()
        both = encode({**make_index([made]).document, **made.document, "mediaType": None})
        for media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
            with pytest.raises(ImageError, match="manifests"):
                Manifest.parse(both, media_type)
        with pytest.raises(ImageError, match="layers"):
            Index.parse(both, OCI_INDEX)

    def test_too_many_layers_are_refused(self) -> None:
        document = image().document
        document["layers"] = document["layers"][:1] * 1001
        with pytest.raises(ImageError, match="layers"):
            Manifest.parse(encode(document))

    @accepting(0.1)
    @given(anything | changed(image().document))
    def test_any_document_gives_only_our_errors(self, document: object) -> None:
        raw = json.dumps(document).encode()
        for media_type in ("", *MANIFEST_TYPES):
            with refusal(CopaError):
                assert all(isinstance(layer, Descriptor) for layer in Manifest.parse(raw, media_type).layers)


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"layers": [], "config": {}}, OCI_MANIFEST),
        ({"manifests": []}, OCI_INDEX),
        ({"mediaType": DOCKER_INDEX}, DOCKER_INDEX),
        ({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+json"),
    ],
)
def test_the_kind_is_detected(document: dict[str, Any], media_type: str) -> None:
    assert detect_media_type(encode(document)) == media_type


class TestIndex:
    @pytest.mark.parametrize(("kind", "media_type"), [("oci", OCI_INDEX), ("docker", DOCKER_INDEX)])
    def test_replacing_an_entry_keeps_everything_else(self, kind: str, media_type: str) -> None:
        amd, arm = image(kind=kind), image(kind=kind, platform="linux/arm64/v8", labels={"a": "b"})
        other = {"mediaType": "application/vnd.example", "size": 2, "digest": str(Digest.of(b"o")), "x-field": [1]}
        made = make_index([amd, arm, make_attestation(arm)], kind=kind, entries=[other], **{"x-top": {"z": 1, "a": 2}})
        index = Index.parse(made.raw)
        assert index.media_type == media_type
        new = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"new"), size=99)
        after, before = edited(index.replace(index.manifests[1], new).raw), made.document
        assert after["manifests"][1] == {
            **before["manifests"][1],
            "mediaType": OCI_MANIFEST,
            "digest": str(new.digest),
            "size": 99,
        }
        after["manifests"][1] = before["manifests"][1]
        assert json.dumps(after) == json.dumps(before)

    def test_attestations_are_recognised(self) -> None:
        made = image()
        index = Index.parse(make_index([made, make_attestation(made)]).raw)
        assert [index.is_attestation(entry) for entry in index.manifests] == [False, True]

    def test_an_attestation_is_found_by_the_image_that_it_describes(self) -> None:
        made, other, gone = (image(platform=f"linux/{name}") for name in ("amd64", "arm64", "s390x"))
        unnamed = make_image([], platform="unknown/unknown")
        attestations = [make_attestation(made), make_attestation(gone), unnamed]
        index = Index.parse(make_index([made, other, *attestations]).raw)

        found = [{entry.digest for entry in index.attestations_of(one.descriptor.digest)} for one in (made, other)]

        digests = [attestation.descriptor.digest for attestation in attestations]
        assert found == [set(digests), set(digests[1:])]

    def test_an_empty_index_is_read(self) -> None:
        assert Index.parse(b'{"manifests":null}').manifests == ()

    @accepting(0.1)
    @given(anything | changed(make_index([image()]).document))
    def test_any_document_gives_only_our_errors(self, document: object) -> None:
        with refusal(CopaError):
            assert all(isinstance(entry, Descriptor) for entry in Index.parse(json.dumps(document).encode()).manifests)


class TestImageConfig:
    def test_all_fields_are_read(self) -> None:
        made = image(platform="linux/arm64/v8", labels={"a": "b"})
        config = ImageConfig.parse(encode(made.config))
        assert (config.os, config.architecture, config.variant) == ("linux", "arm64", "v8")
        assert config.diff_ids == tuple(layer.diff_id for layer in made.layers)
        assert config.created == "2024-01-01T00:00:00Z"
        assert config.labels == {"a": "b"}
        assert [row["created_by"] for row in config.history] == ["layer 0", "layer 1"]

    def test_a_new_layer_keeps_everything_else(self) -> None:
        made = image(
            labels={"old": "1", "both": "old"}, config={"x-new": {"b": 1, "a": None}, "container_config": {"Cmd": None}}
        )
        before = made.config
        row = {"created": "2025-01-01T00:00:00Z", "created_by": "copa"}
        parsed = ImageConfig.parse(encode(before))
        new = parsed.with_layer(Digest.of(b"d"), history=row, created="2025-01-01T00:00:00Z", labels={"both": "new"})
        after = edited(new.raw)
        assert list(after) == list(before)
        assert after["rootfs"]["diff_ids"] == [*before["rootfs"]["diff_ids"], str(Digest.of(b"d"))]
        assert after["history"] == [*before["history"], row]
        assert after["config"] == {**before["config"], "Labels": {"old": "1", "both": "new"}}
        assert after["created"] == "2025-01-01T00:00:00Z"
        for key in ("x-new", "container_config", "os", "architecture"):
            assert after[key] == before[key]

    @pytest.mark.parametrize("more", [{"config": None}, {"config": {"Labels": None}}, {"history": None}])
    def test_nulls_are_empty(self, more: dict[str, Any]) -> None:
        parsed = ImageConfig.parse(encode(image(config=more).config))
        after = parsed.with_layer(Digest.of(b"d"), history={"created_by": "x"}, created="now", labels={"k": "v"})
        assert after.labels == {"k": "v"}
        assert len(after.diff_ids) == 3

    def test_a_config_without_layers_gets_its_first(self) -> None:
        parsed = ImageConfig.parse(b'{"rootfs":{"type":"layers","diff_ids":null}}')
        after = parsed.with_layer(Digest.of(b"d"), history={}, created="now", labels={})
        assert after.diff_ids == (Digest.of(b"d"),)

    def test_the_limit_is_exact(self) -> None:
        raw = encode(image().config)
        ImageConfig.parse(raw + b" " * (CONFIG_LIMIT - len(raw)))
        with pytest.raises(ImageError, match="the limit is"):
            ImageConfig.parse(raw + b" " * (CONFIG_LIMIT - len(raw) + 1))

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"rootfs": []},
            {"rootfs": {}},
            {"rootfs": {"diff_ids": "x"}},
            {"rootfs": {"diff_ids": ["x"]}},
            {"rootfs": {"diff_ids": []}, "history": {"a": 1}},
            {"rootfs": {"diff_ids": []}, "config": [1]},
            {"rootfs": {"diff_ids": []}, "config": {"Labels": ["a"]}},
        ],
    )
    def test_a_wrong_shape_is_one_clear_error(self, document: dict[str, Any]) -> None:
        with pytest.raises(ImageError):
            ImageConfig.parse(encode(document))

    def test_half_a_surrogate_pair_stays_escaped(self) -> None:
        raw = b'{"x":"\\ud800","rootfs":{"diff_ids":[]}}'
        after = ImageConfig.parse(raw).with_layer(Digest.of(b"d"), history={}, created="now", labels={})
        assert b'"x":"\\ud800"' in after.raw

    def test_numbers_that_json_can_not_hold_are_never_written(self) -> None:
        for number in (b"NaN", b"1e999", b"-Infinity"):
            with pytest.raises(ImageError):
                ImageConfig.parse(b'{"x":' + number + b',"rootfs":{"diff_ids":[]}}').with_layer(
                    Digest.of(b"d"), history={}, created="now", labels={}
                )


class TestLayers:
    @pytest.mark.parametrize(
        ("media_type", "compression"),
        [
            (OCI_LAYER, "none"),
            (f"{OCI_LAYER}+gzip", "gzip"),
            (f"{OCI_LAYER}+zstd", "zstd"),
            (DOCKER_LAYER, "none"),
            (f"{DOCKER_LAYER}.gzip", "gzip"),
            (f"{DOCKER_LAYER}.zstd", "zstd"),
        ],
    )
    def test_the_media_type_tells_the_compression(self, media_type: str, compression: str) -> None:
        assert layer_compression(media_type) == compression

    @pytest.mark.parametrize("kind", ["oci", "docker"])
    @pytest.mark.parametrize("compression", ["none", "gzip"])
    def test_the_media_type_of_a_new_layer_is_of_its_kind(self, kind: str, compression: str) -> None:
        made = make_layer({"a": "b"}, kind=kind, compression=compression)
        assert layer_media_type(Manifest.parse(image(kind=kind).raw), compression) == made.descriptor.media_type

    def test_docker_has_no_zstd(self) -> None:
        assert layer_media_type(Manifest.parse(image().raw), "zstd") == f"{OCI_LAYER}+zstd"
        with pytest.raises(UnsupportedImageError, match="zstd"):
            layer_media_type(Manifest.parse(image(kind="docker").raw), "zstd")

    @pytest.mark.parametrize(
        ("media_type", "here"),
        [
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", False),
            (f"{OCI_LAYER}+gzip", True),
        ],
    )
    def test_foreign_layers_are_recognised(self, media_type: str, here: bool) -> None:
        made = Descriptor(media_type=media_type, digest=Digest.of(b""), size=0, urls=("https://publisher.example",))
        assert is_distributable(made) is here
        assert is_distributable(replace(made, urls=()))


def test_every_real_document_survives_reading_and_writing() -> None:
    seen = 0
    for path in sorted(fixture("images/regclient/testdata/testrepo/blobs/sha256").iterdir()):
        raw = path.read_bytes()
        if not raw.startswith(b'{"schemaVersion"'):
            continue
        media_type = detect_media_type(raw)
        if media_type == OCI_INDEX:
            index = Index.parse(raw)
            for entry in index.manifests:
                assert json.loads(index.replace(entry, entry).raw) == json.loads(raw)
            seen += 1
        elif media_type == OCI_MANIFEST:
            manifest = Manifest.parse(raw)
            assert [d.to_json() for d in manifest.layers] == json.loads(raw)["layers"]
            seen += 1
    assert seen > 10
