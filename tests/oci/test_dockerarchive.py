# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copacetic.errors import (
    CopaError,
    CorruptLayerError,
    ImageError,
    IntegrityError,
    NotFoundError,
    StorageError,
    UnsupportedImageError,
    UsageError,
)
from copacetic.oci import Digest, ImageConfig, Manifest, Reference
from copacetic.oci.dockerarchive import DockerArchiveDestination, DockerArchiveSource
from copacetic.oci.layout import LayoutDestination
from copacetic.oci.manifest import DOCKER_LAYER, DOCKER_MANIFEST, MANIFEST_LIMIT, OCI_LAYER, OCI_MANIFEST
from support.floors import accepting, refusal
from support.image.images import (
    Image,
    Layer,
    MemoryDestination,
    MemorySource,
    TarItem,
    assert_valid_image,
    copy_image,
    encode,
    make_image,
    make_index,
    make_layer,
    make_tar,
    skopeo,
    small_disk,
    tar_file,
    umoci,
    write_layout,
)

_ROW = {"Config": "c", "RepoTags": ["web:1"], "Layers": ["l"]}
_KEYS = st.sampled_from([*_ROW, "LayerSources", "x"])
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner),
    max_leaves=10,
)


def plain(text: str) -> Layer:
    return make_layer({"etc/": "", f"etc/{text}": text * 100}, compression="none")


def image(*layers: Layer, **options: Any) -> Image:
    return make_image(layers or (plain("one"), plain("two")), **options)


def write(path: Path, members: Iterable[TarItem]) -> Path:
    path.write_bytes(make_tar(members))
    return path


def save(path: Path, made: Image, *, tags: Sequence[str] = ("web:1",), **fields: Any) -> Path:
    """An archive as docker up to 24 wrote it: a folder per layer."""
    config = encode(made.config)
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    layers = [f"{n:064x}/layer.tar" for n in range(len(made.layers))]
    row = {"Config": name, "RepoTags": list(tags) or None, "Layers": layers, **fields}
    members = [tar_file(layer, made.layers[n].blob) for n, layer in enumerate(layers)]
    return write(path, [*members, tar_file(name, config), tar_file("manifest.json", encode([row]))])


def layers_of(source: DockerArchiveSource) -> list[str]:
    _, raw = source.root()
    return [layer.media_type for layer in Manifest.parse(raw).layers]


class TestReading:
    def test_the_made_manifest_describes_what_is_stored(self, tmp_path: Path) -> None:
        made = image()
        source = DockerArchiveSource(save(tmp_path / "a.tar", made))
        root, raw = source.root()
        manifest = Manifest.parse(raw)
        assert root.media_type == manifest.media_type == DOCKER_MANIFEST
        assert [layer.digest for layer in manifest.layers] == [layer.diff_id for layer in made.layers]
        assert layers_of(source) == [DOCKER_LAYER, DOCKER_LAYER]
        copy_image(source, LayoutDestination(tmp_path / "l", "1"))
        assert_valid_image(tmp_path / "l", "1")

    def test_it_is_the_same_manifest_every_time(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tar", image())
        assert DockerArchiveSource(path).root() == DockerArchiveSource(path).root()

    @pytest.mark.parametrize(
        ("compression", "manifest", "layer"),
        [
            ("none", DOCKER_MANIFEST, DOCKER_LAYER),
            ("gzip", DOCKER_MANIFEST, f"{DOCKER_LAYER}.gzip"),
            ("zstd", OCI_MANIFEST, f"{OCI_LAYER}+zstd"),
        ],
    )
    def test_compressed_layers_are_taken_as_they_are(
        self, tmp_path: Path, compression: str, manifest: str, layer: str
    ) -> None:
        made = image(make_layer({"a": "b"}, compression=compression))
        source = DockerArchiveSource(save(tmp_path / "a.tar", made))
        assert source.root()[0].media_type == manifest
        assert layers_of(source) == [layer]
        copy_image(source, LayoutDestination(tmp_path / "l", "1"))
        assert_valid_image(tmp_path / "l", "1")

    def test_a_gzipped_archive_is_read(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tar", image())
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
        assert DockerArchiveSource(tmp_path / "a.tar.gz").root() == DockerArchiveSource(path).root()

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    def test_a_layer_that_is_a_link_to_another_is_followed(self, tmp_path: Path, kind: bytes) -> None:
        layer = plain("same")
        made = image(layer, layer)
        config = encode(made.config)
        target = "../a/layer.tar" if kind == tarfile.SYMTYPE else "a/layer.tar"
        row = {"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}
        members = [
            tar_file("a/layer.tar", layer.plain),
            tar_file("b/layer.tar", type=kind, linkname=target),
            tar_file("c.json", config),
            tar_file("manifest.json", encode([row])),
        ]
        copy_image(DockerArchiveSource(write(tmp_path / "a.tar", members)), LayoutDestination(tmp_path / "l", "1"))
        assert_valid_image(tmp_path / "l", "1")

    @pytest.mark.parametrize("reference", ["web:1", "docker.io/library/web:1", "registry.example/x/y:2"])
    def test_a_reference_selects_among_several(self, tmp_path: Path, reference: str) -> None:
        one, two = image(plain("a")), image(plain("b"))
        rows, members = [], []
        for n, (made, tags) in enumerate([(one, ["web:1", "registry.example/x/y:2"]), (two, ["web:2"])]):
            members += [tar_file(f"{n}.json", encode(made.config)), tar_file(f"{n}.tar", made.layers[0].plain)]
            rows.append({"Config": f"{n}.json", "RepoTags": tags, "Layers": [f"{n}.tar"]})
        path = write(tmp_path / "a.tar", [*members, tar_file("manifest.json", encode(rows))])
        config = Manifest.parse(DockerArchiveSource(path, Reference.parse(reference)).root()[1]).config
        assert config.digest == Digest.of(encode(one.config))
        with pytest.raises(UsageError, match="has 2 images") as caught:
            DockerArchiveSource(path).root()
        assert "web:1, registry.example/x/y:2, web:2" in str(caught.value.hint)
        with pytest.raises(NotFoundError, match="has no image docker.io/library/web:3"):
            DockerArchiveSource(path, Reference.parse("web:3")).root()

    def test_a_layer_with_another_content_is_found_by_its_reader(self, tmp_path: Path) -> None:
        made = image()
        odd = Image(made.descriptor, made.raw, made.blobs, (made.layers[1], made.layers[0]))
        with pytest.raises(IntegrityError):
            copy_image(DockerArchiveSource(save(tmp_path / "a.tar", odd)), MemoryDestination())

    def test_only_the_made_manifest_is_there(self, tmp_path: Path) -> None:
        made = image()
        source = DockerArchiveSource(save(tmp_path / "a.tar", made))
        with pytest.raises(NotFoundError, match="has no manifest"):
            source.manifest(made.descriptor)
        with pytest.raises(NotFoundError, match="has no blob"), source.open_blob(made.descriptor):
            pass

    @pytest.mark.parametrize(
        ("members", "error", "text"),
        [
            ([], ImageError, "it has no manifest.json"),
            ([("index.json", "{}")], ImageError, "is not a docker archive"),
            ([("repositories", "{}")], UnsupportedImageError, "before 1.10"),
            ([("manifest.json", "{")], ImageError, "is not JSON"),
            ([("manifest.json", "[" * 100_000)], ImageError, "is not JSON"),
            ([("manifest.json", "{}")], ImageError, "lists no images"),
            ([("manifest.json", "[]")], ImageError, "lists no images"),
            ([("manifest.json", "[1]")], ImageError, "image 0 of manifest.json is not an object"),
            ([("manifest.json", '[{"Config":1}]')], ImageError, "no usable Config"),
            ([("manifest.json", '[{"Config":"c","Layers":[1]}]')], ImageError, "no usable Config"),
            ([("manifest.json", '[{"Config":"c","RepoTags":"x"}]')], ImageError, "no usable Config"),
            ([("manifest.json", '[{"Config":"c"}]')], NotFoundError, "has no c"),
            ([("manifest.json", '[{"Config":"../../etc/passwd"}]')], ImageError, "leads out of the archive"),
            ([("manifest.json", '[{"Config":"/etc/passwd"}]')], ImageError, "leads out of the archive"),
            ([("manifest.json", '[{"Config":"c"}]'), ("c", "{}")], ImageError, "no rootfs"),
            (
                [("manifest.json", '[{"Config":"c","Layers":["l"]}]'), ("c", '{"rootfs":{"diff_ids":[]}}'), ("l", "")],
                ImageError,
                "has 1 layers, its config 0",
            ),
        ],
    )
    def test_a_broken_archive_is_one_clear_error(
        self, tmp_path: Path, members: list[tuple[str, str]], error: type[CopaError], text: str
    ) -> None:
        path = write(tmp_path / "a.tar", [tar_file(name, data) for name, data in members])
        with pytest.raises(error, match=text):
            DockerArchiveSource(path).root()

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "."])
    def test_a_layer_name_never_leads_out_of_the_archive(self, tmp_path: Path, name: str) -> None:
        path = save(tmp_path / "a.tar", image(), Layers=[name, name])
        with pytest.raises(ImageError, match="leads out of the archive"):
            DockerArchiveSource(path).root()

    @pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "layer.tar", "gone"])
    def test_a_layer_link_never_leads_out_or_round(self, tmp_path: Path, target: str) -> None:
        row = {"Config": "c", "Layers": ["a/layer.tar"]}
        members = [
            tar_file("a/layer.tar", type=tarfile.SYMTYPE, linkname=target),
            tar_file("c", encode(image(plain("x")).config)),
            tar_file("manifest.json", encode([row])),
        ]
        with pytest.raises(CopaError, match=r"leads|has no a/gone"):
            DockerArchiveSource(write(tmp_path / "a.tar", members)).root()

    def test_oversize_documents_are_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tar", [tar_file("manifest.json", bytes(MANIFEST_LIMIT + 1))])
        with pytest.raises(ImageError, match="has more than"):
            DockerArchiveSource(path).root()

    @accepting(0.1)
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(document=_ANYTHING | st.dictionaries(_KEYS, _ANYTHING, max_size=2).map(lambda more: [{**_ROW, **more}]))
    def test_any_manifest_json_gives_only_our_errors(self, tmp_path: Path, document: object) -> None:
        made = image(plain("x"))
        members = [tar_file("c", encode(made.config)), tar_file("l", made.layers[0].blob)]
        path = write(tmp_path / "a.tar", [*members, tar_file("manifest.json", json.dumps(document))])
        with refusal(CopaError):
            DockerArchiveSource(path).root()


class TestWriting:
    def test_layers_are_plain_and_named_by_their_diff_id(self, tmp_path: Path) -> None:
        layers = [make_layer({f"{c}.txt": c * 9}, compression=c) for c in ("none", "gzip", "zstd")]
        made = image(*layers)
        published = copy_image(
            MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar", Reference.parse("web:1"))
        )
        assert (
            published.reference == f"docker-archive:{tmp_path}/a.tar:docker.io/library/web:1@{made.descriptor.digest}"
        )
        with tarfile.open(tmp_path / "a.tar") as tar:
            contents = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        config = f"{Digest.of(encode(made.config)).encoded}.json"
        expected = [f"{layer.diff_id.encoded}.tar" for layer in layers]
        assert json.loads(contents["manifest.json"]) == [{"Config": config, "RepoTags": ["web:1"], "Layers": expected}]
        assert [contents[name] for name in expected] == [layer.plain for layer in layers]
        assert json.loads(contents[config]) == made.config
        assert sorted(contents) == sorted([config, "manifest.json", *expected])

    @pytest.mark.parametrize(
        ("reference", "tags"),
        [
            ("", None),
            ("web", ["web:latest"]),
            ("docker.io/me/web:2", ["me/web:2"]),
            ("registry.example:5000/a/b", ["registry.example:5000/a/b:latest"]),
        ],
    )
    def test_the_name_is_as_docker_writes_it(self, tmp_path: Path, reference: str, tags: list[str] | None) -> None:
        copy_image(
            MemorySource(image()),
            DockerArchiveDestination(tmp_path / "a.tar", Reference.parse(reference) if reference else None),
        )
        with tarfile.open(tmp_path / "a.tar") as tar:
            assert json.load(tar.extractfile("manifest.json"))[0]["RepoTags"] == tags  # type: ignore[arg-type]

    def test_the_same_layer_twice_is_stored_once(self, tmp_path: Path) -> None:
        tar = make_tar({"a": "b"})
        made = image(make_layer(tar, compression="gzip"), make_layer(tar, compression="zstd"), plain("x"))
        copy_image(MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar"))
        with tarfile.open(tmp_path / "a.tar") as archive:
            names = archive.getnames()
        assert len(names) == len(set(names)) == 4
        copy_image(DockerArchiveSource(tmp_path / "a.tar"), LayoutDestination(tmp_path / "l", "1"))
        assert_valid_image(tmp_path / "l", "1")

    def test_a_round_trip_keeps_the_config_and_the_layers(self, tmp_path: Path) -> None:
        made = image(kind="docker")
        copy_image(MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar"))
        target = MemoryDestination()
        copy_image(DockerArchiveSource(tmp_path / "a.tar"), target)
        assert target.published is not None
        manifest = Manifest.parse(target.published.raw)
        assert manifest.config.digest == Manifest.parse(made.raw).config.digest
        assert [d.digest for d in manifest.layers] == [layer.diff_id for layer in made.layers]

    def test_an_index_is_refused_with_the_way_out(self, tmp_path: Path) -> None:
        made = make_index([image(), image(plain("arm"), platform="linux/arm64")])
        with pytest.raises(UsageError) as caught:
            copy_image(MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar"))
        assert "--platform" in str(caught.value.hint)
        assert list(tmp_path.iterdir()) == []

    def test_a_layer_that_is_not_its_diff_id_is_refused(self, tmp_path: Path) -> None:
        diff_ids = [str(plain("other").diff_id)]
        made = image(plain("one"), config={"rootfs": {"type": "layers", "diff_ids": diff_ids}})
        with pytest.raises(CorruptLayerError, match="that the config promises"):
            copy_image(MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar"))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
    def test_a_damaged_layer_is_refused(self, tmp_path: Path, compression: str) -> None:
        made = image(make_layer({"a": os.urandom(5000)}, compression=compression))
        layer = made.layers[0]
        damaged = layer.blob[:2000] + bytes(100) + layer.blob[2100:]
        source = MemorySource(Image(made.descriptor, made.raw, {**made.blobs, layer.descriptor.digest: damaged}))
        with pytest.raises((CorruptLayerError, IntegrityError)):
            copy_image(source, DockerArchiveDestination(tmp_path / "a.tar"))
        assert list(tmp_path.iterdir()) == []

    def test_bytes_after_a_layer_are_refused(self, tmp_path: Path) -> None:
        made = image(make_layer({"a": "b"}))
        layer = made.layers[0]
        blobs = {**made.blobs, layer.descriptor.digest: layer.blob + b"\0more"}
        with pytest.raises((CorruptLayerError, IntegrityError)):
            copy_image(MemorySource(Image(made.descriptor, made.raw, blobs)), DockerArchiveDestination(tmp_path / "a"))

    def test_a_foreign_layer_is_refused(self, tmp_path: Path) -> None:
        made = image(plain("x"))
        manifest = made.document
        manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        manifest["layers"][0]["urls"] = ["https://publisher.example/layer"]
        odd = image(plain("x"), manifest=manifest)
        with pytest.raises(UnsupportedImageError, match="foreign layer"):
            copy_image(MemorySource(odd), DockerArchiveDestination(tmp_path / "a.tar"))

    def test_a_config_made_by_hand_is_kept_byte_for_byte(self, tmp_path: Path) -> None:
        made = image(config={"x-unknown": {"b": 1, "a": 2}})
        copy_image(MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar"))
        source = DockerArchiveSource(tmp_path / "a.tar")
        config = Manifest.parse(source.root()[1]).config
        with source.open_blob(config) as stream:
            raw = stream.read(1 << 20)
        assert raw == made.blobs[config.digest]
        assert ImageConfig.parse(raw).diff_ids == tuple(layer.diff_id for layer in made.layers)

    @pytest.mark.system
    def test_a_small_disk_fills_up_with_one_clear_error(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "small") as disk:
            big = make_image([make_layer({"big": os.urandom(3 << 20)}, compression="none")])
            with pytest.raises(StorageError, match="No space left on device"):
                copy_image(MemorySource(big), DockerArchiveDestination(disk / "a.tar"))
            assert list(disk.iterdir()) == []


@pytest.mark.system
class TestOtherTools:
    @pytest.mark.parametrize("kind", ["oci", "docker"])
    def test_skopeo_and_umoci_read_what_was_written(self, tmp_path: Path, kind: str) -> None:
        made = image(make_layer({"etc/": "", "etc/name": "hello"}, kind=kind), plain("x"), kind=kind)
        copy_image(MemorySource(made), DockerArchiveDestination(tmp_path / "a.tar", Reference.parse("web:1")))
        shown = json.loads(skopeo("inspect", f"docker-archive:{tmp_path}/a.tar"))
        assert shown["Layers"] == [str(layer.diff_id) for layer in made.layers]
        skopeo("copy", f"docker-archive:{tmp_path}/a.tar:web:1", f"oci:{tmp_path}/l:1")
        assert_valid_image(tmp_path / "l", "1")
        umoci("unpack", "--rootless", "--image", f"{tmp_path}/l:1", tmp_path / "bundle")
        assert (tmp_path / "bundle/rootfs/etc/name").read_text() == "hello"

    def test_what_skopeo_wrote_is_read(self, tmp_path: Path) -> None:
        made = image()
        write_layout(tmp_path / "l", {"1": made})
        skopeo("copy", f"oci:{tmp_path}/l:1", f"docker-archive:{tmp_path}/a.tar:web:1")
        copy_image(
            DockerArchiveSource(tmp_path / "a.tar", Reference.parse("web:1")), LayoutDestination(tmp_path / "m", "1")
        )
        document = assert_valid_image(tmp_path / "m", "1")
        assert [d["digest"] for d in document["layers"]] == [str(layer.diff_id) for layer in made.layers]


def test_zstd_bomb_in_a_layer_is_bounded_by_its_descriptor(tmp_path: Path) -> None:
    made = image(plain("x"))
    layer = made.layers[0].descriptor
    bomb = zstandard.compress(bytes(1 << 24))
    blobs = {**made.blobs, layer.digest: bomb}
    with pytest.raises(IntegrityError):
        copy_image(MemorySource(Image(made.descriptor, made.raw, blobs)), DockerArchiveDestination(tmp_path / "a.tar"))
