# SPDX-License-Identifier: Apache-2.0
"""
Images built in memory, written as layouts, and checked; with the host's skopeo and umoci as oracles.

    base = make_image([make_layer({"etc/os-release": "ID=debian\n"})])
    write_layout(tmp_path / "layout", {"1": base})
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pytest
import zstandard

from copacetic.cache import Cache
from copacetic.compression import decompress
from copacetic.errors import NotFoundError
from copacetic.oci.descriptor import Descriptor, Digest, Platform
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.location import Location
from copacetic.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
)
from copacetic.oci.referrers import Document, make_referrer
from copacetic.oci.transport import ByteStream, Destination, Published, Source
from copacetic.pipeline.open.image import load_image, open_filesystem
from copacetic.progress import Silent
from copacetic.session import Session, Settings

REF_NAME = "org.opencontainers.image.ref.name"
FIXTURES = Path(os.environ.get("COPA_FIXTURES") or Path(__file__).parents[3] / "../shared/fixtures").resolve()

TarItem = tuple[tarfile.TarInfo, bytes]


def fixture(path: str) -> Path:
    """Real material that is not part of the repository; skips the test where it is absent."""
    found = FIXTURES / path
    if not found.exists():
        pytest.skip(f"no fixture {path}")
    return found


@dataclass(frozen=True)
class Layer:
    """A layer's stored and plain bytes."""

    descriptor: Descriptor
    blob: bytes
    plain: bytes

    @cached_property
    def diff_id(self) -> Digest:
        return Digest.of(self.plain)


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest or an index, with all blobs below it by digest."""

    descriptor: Descriptor
    raw: bytes
    blobs: Mapping[Digest, bytes] = field(repr=False)
    layers: tuple[Layer, ...] = field(default=(), repr=False)

    @property
    def document(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.raw)
        return value

    @property
    def config(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.blobs[Digest.parse(self.document["config"]["digest"])])
        return value


def tar_file(path: str, data: bytes | str = b"", **attributes: Any) -> TarItem:
    """A tar member; `attributes` are `TarInfo`'s, as in `type=tarfile.SYMTYPE, linkname="x"`."""
    content = data.encode() if isinstance(data, str) else data
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), 0o644
    for name, value in attributes.items():
        setattr(info, name, value)
    return info, content


def make_tar(content: Mapping[str, bytes | str] | Iterable[TarItem]) -> bytes:
    """A deterministic tar; of a mapping, names with a final slash are directories and `name@` is a symlink."""
    items: Iterable[TarItem]
    items = [_item(path, data) for path, data in content.items()] if isinstance(content, Mapping) else content
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in items:
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _item(path: str, data: bytes | str) -> TarItem:
    if path.endswith("/"):
        return tar_file(path, type=tarfile.DIRTYPE, mode=0o755)
    if path.endswith("@"):
        target = data if isinstance(data, str) else data.decode()
        return tar_file(path[:-1], type=tarfile.SYMTYPE, linkname=target, mode=0o777)
    return tar_file(path, data)


def make_layer(
    content: Mapping[str, bytes | str] | Iterable[TarItem] | bytes, *, compression: str = "gzip", kind: str = "oci"
) -> Layer:
    """`content` is a mapping of files, tar members, or a finished tar."""
    plain = content if isinstance(content, bytes) else make_tar(content)
    blob = {
        "none": lambda: plain,
        "gzip": lambda: gzip.compress(plain, 1, mtime=0),
        "zstd": lambda: zstandard.compress(plain),
    }[compression]()
    base = OCI_LAYER if kind == "oci" else DOCKER_LAYER
    ending = "" if compression == "none" else ("+" if kind == "oci" else ".") + compression
    return Layer(describe(blob, base + ending), blob, plain)


def describe(data: bytes, media_type: str, **more: Any) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data), **more)


def encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def make_image(
    layers: Sequence[Layer],
    *,
    kind: str = "oci",
    platform: str = "linux/amd64",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> Image:
    """`config` and `manifest` are laid over the documents, so that they can be odd or wrong."""
    parsed = Platform.parse(platform)
    document: dict[str, Any] = {"architecture": parsed.architecture, "os": parsed.os}
    if parsed.variant:
        document["variant"] = parsed.variant
    document |= {
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], **({"Labels": dict(labels)} if labels else {})},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"layer {n}"} for n in range(len(layers))],
        **(config or {}),
    }
    raw_config = encode(document)
    media_type = OCI_MANIFEST if kind == "oci" else DOCKER_MANIFEST
    described = describe(raw_config, OCI_CONFIG if kind == "oci" else DOCKER_CONFIG)
    raw = encode(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": described.to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
            **({"annotations": dict(annotations)} if annotations else {}),
            **(manifest or {}),
        }
    )
    descriptor = describe(raw, media_type, platform=parsed)
    blobs = {described.digest: raw_config, descriptor.digest: raw}
    blobs |= {layer.descriptor.digest: layer.blob for layer in layers}
    return Image(descriptor, raw, blobs, tuple(layers))


def make_index(
    images: Sequence[Image], *, kind: str = "oci", entries: Sequence[Mapping[str, Any]] = (), **fields: Any
) -> Image:
    """An index over images (or indexes); `entries` are appended as they are, `fields` laid over the document."""
    media_type = OCI_INDEX if kind == "oci" else DOCKER_INDEX
    rows = [*(image.descriptor.to_json() for image in images), *entries]
    raw = encode({"schemaVersion": 2, "mediaType": media_type, "manifests": rows, **fields})
    descriptor = describe(raw, media_type)
    blobs = {descriptor.digest: raw}
    for image in images:
        blobs |= image.blobs
    return Image(descriptor, raw, blobs)


def make_attestation(image: Image) -> Image:
    """What buildx adds for an image: a manifest of platform unknown/unknown that refers to it."""
    statement = make_layer(b'{"_type":"https://in-toto.io/Statement/v0.1"}', compression="none")
    media_type = "application/vnd.in-toto+json"
    layer = Layer(describe(statement.blob, media_type), statement.blob, statement.plain)
    made = make_image([layer], platform="unknown/unknown")
    annotations = {
        "vnd.docker.reference.digest": str(image.descriptor.digest),
        "vnd.docker.reference.type": "attestation-manifest",
    }
    described = describe(made.raw, OCI_MANIFEST, platform=made.descriptor.platform, annotations=annotations)
    return Image(described, made.raw, made.blobs, made.layers)


def write_layout(path: Path, images: Mapping[str, Image]) -> Path:
    """Write a layout by hand, not with the code under test; the tag "" makes an entry without a name."""
    entries = []
    for tag, image in images.items():
        for digest, data in image.blobs.items():
            blob = path / "blobs" / digest.algorithm / digest.encoded
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(data)
        entry = image.descriptor.to_json()
        if tag:
            entry["annotations"] = {**entry.get("annotations", {}), REF_NAME: tag}
        entries.append(entry)
    path.mkdir(parents=True, exist_ok=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (path / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": entries}))
    return path


def pack_directory(folder: Path, target: Path) -> Path:
    """Make a plain tar of a directory's content, as an archived layout is."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return target


def open_layers(location: str, cache: Path) -> list[LayeredFilesystem]:
    """Return views of every variant of an image, as `copa inspect` has them."""
    session = Session(Settings(jobs=1), Cache(cache), Silent())
    image = load_image(session.access(Location.parse(location)), ())
    return [open_filesystem(image, variant, session) for variant in image.variants]


class MemorySource:
    """An image as a `Source`, without any disk."""

    def __init__(self, image: Image, name: str = "registry.example/image:1") -> None:
        self.name = name
        self.image = image

    def root(self) -> tuple[Descriptor, bytes]:
        return self.image.descriptor, self.image.raw

    def manifest(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.image.blobs:
            raise NotFoundError(f"{self.name} has no {descriptor.digest}")
        return self.image.blobs[descriptor.digest]

    @contextlib.contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
        yield io.BytesIO(self.manifest(descriptor))


class MemoryDestination:
    """Keeps what is written; `published` is None until it is."""

    def __init__(self, name: str = "registry.example/image:new") -> None:
        self.name = name
        self.blobs: dict[Digest, bytes] = {}
        self.published: Image | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        data = bytearray()
        with source.open_blob(descriptor) as stream:
            while part := stream.read(1 << 20):
                data += part
        self._keep(descriptor, bytes(data))

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        self._keep(descriptor, path.read_bytes())

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        self._keep(descriptor, raw)

    def attach(self, subject: Descriptor, document: Document) -> None:
        referrer = make_referrer(subject, document)
        for descriptor, data in (*referrer.blobs, (referrer.descriptor, referrer.raw)):
            self._keep(descriptor, data)

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        self._keep(descriptor, raw)
        self.published = Image(descriptor, raw, self.blobs)
        return Published(name=self.name, digest=descriptor.digest)

    def _keep(self, descriptor: Descriptor, data: bytes) -> None:
        descriptor.check(data, where=self.name)
        self.blobs[descriptor.digest] = data


_SOURCE: type[Source] = MemorySource
_DESTINATION: type[Destination] = MemoryDestination


def copy_image(source: Source, destination: Destination) -> Published:
    """Copy everything below a source's root, as a patch run does with what it doesn't change."""

    def blobs_of(descriptor: Descriptor, raw: bytes) -> None:
        if Index.is_index(descriptor.media_type):
            for entry in Index.parse(raw, descriptor.media_type).manifests:
                child = source.manifest(entry)
                blobs_of(entry, child)
                destination.write_manifest(entry, child)
            return
        manifest = Manifest.parse(raw, descriptor.media_type)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda blob: destination.copy_blob(blob, source), (manifest.config, *manifest.layers)))

    root, raw = source.root()
    with destination:
        blobs_of(root, raw)
        return destination.publish(root, raw)


def assert_valid_image(layout: Path, tag: str = "") -> dict[str, Any]:
    """Check every digest, size, diff_id and count of a tag's image or index, and return its document."""
    index = json.loads((layout / "index.json").read_bytes())
    assert json.loads((layout / "oci-layout").read_bytes())["imageLayoutVersion"] == "1.0.0"
    found = [e for e in index["manifests"] if not tag or e.get("annotations", {}).get(REF_NAME) == tag]
    assert len(found) == 1, f"{len(found)} entries for {tag!r}"
    document: dict[str, Any] = _assert_valid(layout, found[0])
    return document


_unpacked: dict[str, str] = {}
"""What a blob that was read is when it is unpacked, by digest."""


def _assert_valid(layout: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(read_blob(layout, entry))
    if "manifests" in document:
        for child in document["manifests"]:
            _assert_valid(layout, child)
        return document
    config = json.loads(read_blob(layout, document["config"]))
    if "rootfs" not in config:
        return document
    diff_ids = config["rootfs"]["diff_ids"]
    assert len(diff_ids) == len(document["layers"])
    history = [row for row in config.get("history") or [] if not row.get("empty_layer")]
    assert not history or len(history) == len(diff_ids)
    for layer, diff_id in zip(document["layers"], diff_ids, strict=True):
        if ".foreign." in layer["mediaType"] or ".nondistributable." in layer["mediaType"]:
            continue
        data = read_blob(layout, layer)
        if layer["digest"] not in _unpacked:  # the base of a hundred images is unpacked once
            _unpacked[layer["digest"]] = str(Digest.of(decompress(data, limit=1 << 32)))
        if "in-toto" not in layer["mediaType"]:
            assert _unpacked[layer["digest"]] == diff_id
    return document


def read_blob(layout: Path, entry: Mapping[str, Any]) -> bytes:
    """Read a blob of a layout and check it against its descriptor."""
    digest = Digest.parse(entry["digest"])
    data = (layout / "blobs" / digest.algorithm / digest.encoded).read_bytes()
    assert len(data) == entry["size"]
    assert hashlib.new(digest.algorithm, data).hexdigest() == digest.encoded
    return data


def skopeo(*arguments: str | Path) -> str:
    """Run skopeo and return its output; skips where it is absent, fails where it fails."""
    return _run("skopeo", "--insecure-policy", *arguments)


def umoci(*arguments: str | Path) -> str:
    return _run("umoci", *arguments)


def _run(program: str, *arguments: str | Path) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{program} {' '.join(map(str, arguments))}: {result.stderr}"
    return result.stdout


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int = 1) -> Iterator[Path]:
    """A small disk; skips where mounting is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir()
    result = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if result.returncode:
        pytest.skip("mounting is not possible here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)  # an error may keep a file open
