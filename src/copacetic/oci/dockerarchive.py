# SPDX-License-Identifier: Apache-2.0
"""
What `docker save` writes and `docker load` reads (`docker-archive:`): manifest.json names configs and layers.

Archives of all ages are read by their manifest.json, also those that hold an OCI layout besides. An archive stores
no registry manifest, so one is made from what it does store: the layers' digests are those of the stored files,
plain or compressed. Written are plain layers, named by their diff_id. An archive holds images, never an index.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn, Self

from msgspec import Struct

from copacetic.compression import DecompressedReader, DecompressionError, Format, detect
from copacetic.errors import (
    CorruptLayerError,
    ImageError,
    IntegrityError,
    NotFoundError,
    UnsupportedImageError,
    UsageError,
)
from copacetic.oci.archivefile import ArchiveFile, ArchiveWriter, Member
from copacetic.oci.blobs import CHUNK, BlobWindow, Hashing, open_regular, read_whole
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.document import decode_json, refuse_lookalikes
from copacetic.oci.manifest import (
    CONFIG_LIMIT,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    MAX_LAYERS,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ImageConfig,
    Index,
    Manifest,
    encode_document,
    is_distributable,
    is_image_config,
)
from copacetic.oci.reference import DEFAULT_TAG, Reference, means
from copacetic.oci.referrers import Document
from copacetic.oci.transport import ByteStream, Destination, Published, Source, refuse_document

_PLAIN_LIMIT = 256 * 1024**3
_MAX_IMAGES, _MAX_TAGS = 1_000, 1_000
_ONE_PLATFORM = "choose one with --platform, or write an oci: layout, which holds all"


class _Saved(Struct, frozen=True):
    """One image of manifest.json."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


class _Made(Struct, frozen=True):
    """The manifest that stands for the saved image, and where its blobs lie."""

    descriptor: Descriptor
    raw: bytes
    blobs: dict[Digest, Member]


class DockerArchiveSource:
    """Reads one image of an archive: the one with the given reference, or the only one."""

    def __init__(self, path: Path, reference: Reference | None = None) -> None:
        self._path = path
        self._reference = reference
        self.name = f"docker-archive:{path}:{reference}" if reference else f"docker-archive:{path}"
        self._lock = threading.Lock()

    @cached_property
    def _file(self) -> ArchiveFile:
        return ArchiveFile(self._path)

    @cached_property
    def _images(self) -> Mapping[Digest, _Made]:
        made = (_make_manifest(self._file, saved, self.name) for saved in self._select())
        return {image.descriptor.digest: image for image in made}

    @cached_property
    def _root(self) -> tuple[Descriptor, bytes]:
        """The image, or an index of several that have one name, each for another platform."""
        images = [*self._images.values()]
        if len(images) == 1:
            return replace(images[0].descriptor, platform=None), images[0].raw
        if len({image.descriptor.platform for image in images}) != len(images):
            raise UsageError(f"{self.name} has {len(images)} images", hint=self._hint)
        entries = [image.descriptor.to_json() for image in images]
        raw = encode_document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        return Descriptor(media_type=OCI_INDEX, digest=Digest.of(raw), size=len(raw)), raw

    def root(self) -> tuple[Descriptor, bytes]:
        with self._lock:
            return self._root

    def manifest(self, descriptor: Descriptor) -> bytes:
        self.root()
        if descriptor.digest not in self._images:
            raise NotFoundError(f"{self.name} has no manifest {descriptor.digest}")
        return self._images[descriptor.digest].raw

    @contextlib.contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
        self.root()
        found = (image.blobs.get(descriptor.digest) for image in self._images.values())
        member = next(filter(None, found), None)
        if member is None:
            raise NotFoundError(f"{self.name} has no blob {descriptor.digest}")
        where = f"{self.name}: {descriptor.digest}"
        if member.size != descriptor.size:
            raise IntegrityError(f"{where} has {member.size} bytes instead of {descriptor.size}")
        yield self._file.window(member, where)

    @cached_property
    def _saved(self) -> tuple[_Saved, ...]:
        return _read_images(self._file, self._path)

    @property
    def _hint(self) -> str:
        tags = [tag for saved in self._saved for tag in saved.tags]
        named = f"it has {', '.join(tags[:20])}" if tags else "none of its images has a name"
        return named if self._reference else f"append :REFERENCE; {named}"

    def _select(self) -> tuple[_Saved, ...]:
        """The rows of the name, or the only image: rows with one config and the same layers are one."""
        wanted = self._reference
        if wanted is None:
            images = {(saved.config, saved.layers): saved for saved in self._saved}
            if len(images) != 1:
                raise UsageError(f"{self.name} has {len(images)} images", hint=self._hint)
            return tuple(images.values())
        found = tuple(saved for saved in self._saved if any(means(tag, wanted) for tag in saved.tags))
        if not found:
            raise NotFoundError(f"{self._path} has no image {wanted}", hint=self._hint)
        return found


def _read_images(file: ArchiveFile, path: Path) -> tuple[_Saved, ...]:
    if "manifest.json" not in file:
        if "index.json" in file:
            raise ImageError(f"{path} is not a docker archive", hint="it is an OCI layout: use oci-archive:FILE")
        if "repositories" in file:
            hint = "load it and save it again with a current docker or podman"
            raise UnsupportedImageError(f"{path} was written by docker before 1.10, without manifest.json", hint=hint)
        raise ImageError(f"{path} is not a docker archive: it has no manifest.json")
    rows = decode_json(file.read("manifest.json", limit=MANIFEST_LIMIT), f"{path}: manifest.json")
    if not isinstance(rows, list) or not rows:
        raise ImageError(f"{path}: manifest.json lists no images")
    if len(rows) > _MAX_IMAGES:
        raise ImageError(f"{path}: manifest.json lists {len(rows)} images, the limit is {_MAX_IMAGES}")
    return tuple(_read_image(row, f"{path}: image {n} of manifest.json") for n, row in enumerate(rows))


def _read_image(row: object, where: str) -> _Saved:
    if not isinstance(row, dict):
        raise ImageError(f"{where} is not an object")
    refuse_lookalikes(row, ("Config", "RepoTags", "Layers"), where)
    config, tags, layers = row.get("Config"), row.get("RepoTags") or [], row.get("Layers") or []
    if not isinstance(config, str) or not _are_texts(tags) or not _are_texts(layers):
        raise ImageError(f"{where} has no usable Config, RepoTags and Layers")
    if len(tags) > _MAX_TAGS:
        raise ImageError(f"{where} has {len(tags)} names, the limit is {_MAX_TAGS}")
    if len(layers) > MAX_LAYERS:
        raise ImageError(f"{where} has {len(layers)} layers, the limit is {MAX_LAYERS}")
    return _Saved(config, tuple(tags), tuple(layers))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _make_manifest(file: ArchiveFile, saved: _Saved, where: str) -> _Made:
    """Describe what is stored; a zstd layer needs an OCI manifest, all else gives Docker's."""
    raw_config = file.read(saved.config, limit=CONFIG_LIMIT)
    config = ImageConfig.parse(raw_config)
    if len(config.diff_ids) != len(saved.layers):
        message = f"{where} has {len(saved.layers)} layers, its config {len(config.diff_ids)}"
        raise ImageError(message)
    members = [file.find(name) for name in saved.layers]
    formats = [detect(file.window(member, where).read(6)) for member in members]
    docker = "zstd" not in formats
    digests: dict[Member, Digest] = {}
    blobs = {Digest.of(raw_config): file.find(saved.config)}
    layers = []
    for name, member, format_, diff_id in zip(saved.layers, members, formats, config.diff_ids, strict=True):
        # A plain layer's digest is its diff_id; whoever reads the blob finds out whether that is true.
        digest = diff_id
        if format_ != "none":
            digest = digests[member] = digests.get(member) or _hash(file.window(member, f"{where}: {name}"))
        blobs[digest] = member
        layers.append(Descriptor(media_type=_layer_type(format_, docker, name, where), digest=digest, size=member.size))
    descriptor = Descriptor(
        media_type=DOCKER_CONFIG if docker else OCI_CONFIG, digest=Digest.of(raw_config), size=len(raw_config)
    )
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    raw = encode_document(document)
    made = Descriptor(media_type=media_type, digest=Digest.of(raw), size=len(raw), platform=config.platform)
    return _Made(made, raw, blobs)


def _layer_type(format_: Format, docker: bool, name: str, where: str) -> str:
    if format_ not in {"none", "gzip", "zstd"}:
        raise UnsupportedImageError(f"{where}: the layer {name} is compressed with {format_}")
    if docker:
        return DOCKER_LAYER if format_ == "none" else f"{DOCKER_LAYER}.{format_}"
    return OCI_LAYER if format_ == "none" else f"{OCI_LAYER}+{format_}"


def _hash(stream: ByteStream) -> Digest:
    hashing = Hashing(stream)
    while hashing.read(CHUNK):
        pass
    return Digest("sha256", hashing.encoded)


class DockerArchiveDestination:
    """Writes a new archive with one image; a file that is there already is replaced at the end."""

    def __init__(self, path: Path, reference: Reference | None = None) -> None:
        self._path = path
        self._reference = reference
        self.name = f"docker-archive:{path}:{reference}" if reference else f"docker-archive:{path}"
        self._writer: ArchiveWriter | None = None
        self._lock = threading.Lock()
        self._configs: dict[Digest, bytes] = {}
        self._layers: dict[Digest, str] = {}
        """The plain digest, in hexadecimal, of each layer that was written, by the digest that it came with."""

    def __enter__(self) -> Self:
        self._writer = ArchiveWriter(self._path)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        if not is_distributable(descriptor):
            message = f"a docker archive can't leave out the foreign layer {descriptor.digest}"
            raise UnsupportedImageError(message, hint="push it to a registry, or write an oci: layout")
        with source.open_blob(descriptor) as stream:
            self._take(descriptor, stream, source.name)

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        with open_regular(path, missing=f"{path} is gone") as (handle, size):
            self._take(descriptor, BlobWindow(handle, 0, size, str(path)), str(path))

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        descriptor.check(raw, where=self.name)
        raise UsageError("a docker archive holds one image, and this one has several platforms", hint=_ONE_PLATFORM)

    def attach(self, subject: Descriptor, document: Document) -> NoReturn:
        refuse_document(self)

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        if Index.is_index(descriptor.media_type):
            self.write_manifest(descriptor, raw)
        descriptor.check(raw, where=self.name)
        manifest = Manifest.parse(raw, descriptor.media_type)
        config = self._configs.get(manifest.config.digest)
        if config is None:
            raise ImageError(f"{self.name}: the config {manifest.config.digest} was not written")
        names = self._layer_names(manifest, ImageConfig.parse(config))
        config_name = f"{manifest.config.digest.encoded}.json"
        writer = self._open
        writer.append(config_name, config)
        row = {"Config": config_name, "RepoTags": self._tags(), "Layers": names}
        writer.append("manifest.json", encode_document([row]))
        writer.finish()
        return Published(name=self.name, digest=descriptor.digest)

    def _layer_names(self, manifest: Manifest, config: ImageConfig) -> list[str]:
        if len(manifest.layers) != len(config.diff_ids):
            message = f"the manifest has {len(manifest.layers)} layers, its config {len(config.diff_ids)}"
            raise ImageError(f"{self.name}: {message}")
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            if diff_id.algorithm != "sha256":
                message = f"docker knows layers by their SHA-256, and this image's config says {diff_id.algorithm}"
                raise UnsupportedImageError(message, hint="write an oci: layout or an oci-archive:")
            plain = self._layers.get(layer.digest)
            if plain is None:
                raise ImageError(f"{self.name}: the layer {layer.digest} was not written")
            if plain != diff_id.encoded:
                raise CorruptLayerError(f"the layer {layer.digest} is not the {diff_id} that the config promises")
        return [f"{diff_id.encoded}.tar" for diff_id in config.diff_ids]

    def _tags(self) -> list[str] | None:
        if self._reference is None:
            return None
        named = self._reference.with_tag(self._reference.tag or DEFAULT_TAG)
        return [named.familiar]

    @property
    def _open(self) -> ArchiveWriter:
        assert self._writer is not None, "used outside of its context"
        return self._writer

    def _take(self, descriptor: Descriptor, stream: ByteStream, where: str) -> None:
        with self._lock:  # a plain layer's size is known at its end only, so they come one after another
            if descriptor.digest in self._layers or descriptor.digest in self._configs:
                return
            if is_image_config(descriptor.media_type):
                data = read_whole(stream, limit=CONFIG_LIMIT, where=f"{where}: {descriptor.digest}")
                descriptor.check(data, where=where)
                self._configs[descriptor.digest] = data
            else:
                self._layers[descriptor.digest] = self._write_layer(descriptor, stream, where)

    def _write_layer(self, descriptor: Descriptor, stream: ByteStream, where: str) -> str:
        """Append a layer, decompressed, and return its plain digest; the header is written last."""
        compressed = Hashing(stream, descriptor.digest.algorithm)
        plain = hashlib.sha256()
        start = self._open.end
        at = start + len(_PLACEHOLDER)
        try:
            reader = DecompressedReader(compressed, limit=_PLAIN_LIMIT)
            while data := reader.read(CHUNK):
                if compressed.size > descriptor.size:
                    raise IntegrityError(f"{where}: {descriptor.digest} has more than {descriptor.size} bytes")
                plain.update(data)
                self._open.write_at(data, at)
                at += len(data)
        except DecompressionError as error:
            raise CorruptLayerError(f"{where}: the layer {descriptor.digest} is unusable: {error}") from error
        while compressed.read(CHUNK):
            pass
        compressed.check(descriptor, where)
        encoded = plain.hexdigest()
        if encoded in self._layers.values():  # the same layer in another compression
            self._open.rewind(start)
        else:
            self._open.reserve(f"{encoded}.tar", at - start - len(_PLACEHOLDER))
        return encoded


_PLACEHOLDER = bytes(512)
"""The room for a header that can be written only when the size is known."""

_SOURCE: type[Source] = DockerArchiveSource
_DESTINATION: type[Destination] = DockerArchiveDestination
