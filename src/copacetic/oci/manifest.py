# SPDX-License-Identifier: Apache-2.0
"""
Manifests, indexes and image configs: typed views over the bytes that a registry stores.

Editing gives new bytes in which every other field, known or not, stays as it was and where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from copacetic.errors import ImageError, UnsupportedImageError
from copacetic.oci.descriptor import Descriptor, Digest, Platform
from copacetic.oci.document import DOCUMENT_LIMIT, decode_json, refuse_lookalikes, text_field, text_fields

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"
"""Of the image specification's candidates for 1.1; taken out, but written by some."""

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_LIMIT = CONFIG_LIMIT = DOCUMENT_LIMIT
MAX_LAYERS = 1_000
UNTOLD = "a layer of the image that its history did not tell of"

MAX_HISTORY = 10 * MAX_LAYERS
_FIELDS = (
    *("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject", "artifactType"),
    *("os", "architecture", "variant", "created", "rootfs", "history"),
)

_ATTESTATION = "vnd.docker.reference.type"
_ATTESTED = "vnd.docker.reference.digest"


def layer_compression(media_type: str) -> str:
    """Tell how a layer of this media type is compressed: none, gzip or zstd."""
    for ending in ("gzip", "zstd"):
        if media_type.endswith((f"+{ending}", f".{ending}")):
            return ending
    return "none"


def is_distributable(descriptor: Descriptor) -> bool:
    """Tell whether a blob is to be copied; foreign layers stay where their publisher says that they are."""
    foreign = ".foreign." in descriptor.media_type or ".nondistributable." in descriptor.media_type
    return not (foreign and descriptor.urls)


def is_image_config(media_type: str) -> bool:
    """Tell an image from another artifact by its config; the last is what docker wrote before it had a type."""
    return media_type in {OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream"}


def layer_media_type(manifest: Manifest, compression: str) -> str:
    """
    Return the media type of a new layer in a manifest of this kind.

    Raises `UnsupportedImageError` for zstd in a Docker manifest, which has no word for it.
    """
    if manifest.media_type == DOCKER_MANIFEST:
        if compression == "zstd":
            hint = "leave --compression out, or use gzip"
            raise UnsupportedImageError("a Docker manifest can't hold a zstd layer", hint=hint)
        return DOCKER_LAYER if compression == "none" else f"{DOCKER_LAYER}.gzip"
    return OCI_LAYER if compression == "none" else f"{OCI_LAYER}+{compression}"


def detect_media_type(raw: bytes) -> str:
    """Tell what kind of manifest these bytes are; its own `mediaType` decides, else its shape."""
    document = _decode(raw, "the manifest", MANIFEST_LIMIT)
    media_type = document.get("mediaType")
    if isinstance(media_type, str) and media_type:
        return media_type
    if document.get("schemaVersion") == 1:
        return "application/vnd.docker.distribution.manifest.v1+json"
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


def _decode(raw: bytes, what: str, limit: int) -> dict[str, Any]:
    document = decode_json(raw, what, limit)
    if not isinstance(document, dict):
        raise ImageError(f"{what} is not a JSON object")
    refuse_lookalikes(document, _FIELDS, what)
    return document


def encode_document(document: object) -> bytes:
    """Write JSON compactly, in the order of its fields; the same document gives the same bytes."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can hold
        return json.dumps(document, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:  # Python's reader takes numbers that JSON doesn't know
        raise ImageError(f"the document holds what JSON can't: {error}") from error


def artifact_blobs(raw: bytes) -> tuple[Descriptor, ...]:
    """Return what an artifact manifest names. Raises `ImageError`."""
    document = _decode(raw, "the artifact manifest", MANIFEST_LIMIT)
    blobs = _list(document, "blobs", "the artifact manifest", MAX_LAYERS) if "blobs" in document else []
    return tuple(Descriptor.from_json(d, f"the artifact manifest's blob {n}") for n, d in enumerate(blobs))


def _list(document: Mapping[str, Any], name: str, what: str, limit: int) -> list[Any]:
    value = document.get(name, ...)
    if value is None:  # Go's JSON for an empty list
        return []
    if not isinstance(value, list) or len(value) > limit:
        raise ImageError(f"{what} has no usable list of {name}")
    return value


def _refuse_unknown(media_type: str, known: tuple[str, ...], what: str) -> None:
    if media_type in known:
        return
    if ".v1+" in media_type and "docker.distribution" in media_type:
        hint = "pull it and push it again with a current docker, podman or skopeo"
        raise UnsupportedImageError("Docker's manifest schema 1 is not supported", hint=hint)
    raise UnsupportedImageError(
        f"not {what}: {media_type[:120]!r}", hint="name a container image, not another artifact"
    )


def _refuse_fields(document: Mapping[str, Any], names: tuple[str, ...], what: str) -> None:
    """A document that is a manifest to one reader and an index to another is a trick (CVE-2021-41190)."""
    for name in names:
        if document.get(name) is not None:
            raise ImageError(f"{what} has {name} too, which makes it ambiguous")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One platform's image."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Manifest:
        """Raises `ImageError` or `UnsupportedImageError`."""
        media_type = media_type or detect_media_type(raw)
        _refuse_unknown(media_type, MANIFEST_TYPES, "an image manifest")
        document = _decode(raw, "the manifest", MANIFEST_LIMIT)
        _refuse_fields(document, ("manifests",), "the manifest")
        layers = _list(document, "layers", "the manifest", MAX_LAYERS)
        config = Descriptor.from_json(document.get("config"), "the manifest's config")
        if not config.media_type:
            raise ImageError("the manifest's config has no mediaType")
        return cls(
            raw=raw,
            media_type=media_type,
            config=config,
            layers=tuple(Descriptor.from_json(d, f"the manifest's layer {n}") for n, d in enumerate(layers)),
            annotations=_annotations(document),
        )

    def with_layer(self, config: Descriptor, layer: Descriptor, *, annotations: Mapping[str, str]) -> Manifest:
        """Add a layer on top, with the config that lists it. Docker manifests have no place for annotations."""
        document = _decode(self.raw, "the manifest", MANIFEST_LIMIT)
        document["config"] = self.config.pointing_to(config).to_json()
        document["layers"] = [*(document["layers"] or []), layer.to_json()]
        if self.media_type == OCI_MANIFEST and annotations:
            document["annotations"] = {**self.annotations, **annotations}
        return Manifest.parse(encode_document(document), self.media_type)


@dataclass(frozen=True, slots=True)
class Index:
    """Many platforms' images."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]

    @staticmethod
    def is_index(media_type: str) -> bool:
        return media_type in INDEX_TYPES

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Index:
        """Raises `ImageError` or `UnsupportedImageError`."""
        media_type = media_type or detect_media_type(raw)
        _refuse_unknown(media_type, INDEX_TYPES, "an image index")
        document = _decode(raw, "the index", MANIFEST_LIMIT)
        _refuse_fields(document, ("layers", "config"), "the index")
        entries = _list(document, "manifests", "the index", MAX_LAYERS)
        return cls(
            raw=raw,
            media_type=media_type,
            manifests=tuple(Descriptor.from_json(d, f"the index's entry {n}") for n, d in enumerate(entries)),
        )

    @staticmethod
    def is_attestation(entry: Descriptor) -> bool:
        """Tell whether an entry describes another one instead of being an image (buildx's provenance and SBOM)."""
        platform = entry.platform
        unknown = platform is not None and (platform.os, platform.architecture) == ("unknown", "unknown")
        return unknown or _ATTESTATION in entry.annotations

    def attestations_of(self, digest: Digest) -> tuple[Descriptor, ...]:
        """
        Return the entries that describe an image of this index, or none that is in it.

        The latter may be about what this image was before it was patched.
        """
        others = {str(entry.digest) for entry in self.manifests} - {str(digest)}
        attestations = (entry for entry in self.manifests if self.is_attestation(entry))
        return tuple(entry for entry in attestations if entry.annotations.get(_ATTESTED) not in others)

    def replace(self, old: Descriptor, new: Descriptor) -> Index:
        """Let the entry point to a new manifest; its platform and annotations and all other entries stay."""
        document = _decode(self.raw, "the index", MANIFEST_LIMIT)
        document["manifests"] = [
            entry.pointing_to(new).to_json() if entry.digest == old.digest else original
            for entry, original in zip(self.manifests, document["manifests"] or [], strict=True)
        ]
        return Index.parse(encode_document(document), self.media_type)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How an image runs, and which layers it has."""

    raw: bytes
    os: str
    architecture: str
    variant: str
    created: str
    diff_ids: tuple[Digest, ...]
    history: tuple[Mapping[str, Any], ...]
    labels: Mapping[str, str]

    @property
    def platform(self) -> Platform:
        """What an index doesn't say, or what a single image is for."""
        return Platform(os=self.os, architecture=self.architecture, variant=self.variant)

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Raises `ImageError`."""
        document = _decode(raw, "the image config", CONFIG_LIMIT)
        rootfs = document.get("rootfs")
        if not isinstance(rootfs, dict):
            raise ImageError("the image config has no rootfs")
        diff_ids = _list(rootfs, "diff_ids", "the image config", MAX_LAYERS)
        refuse_lookalikes(rootfs, ("type", "diff_ids"), "the image config")
        history = document.get("history") or []
        run = document.get("config") or {}
        if not isinstance(history, list) or len(history) > MAX_HISTORY or not isinstance(run, dict):
            raise ImageError("the image config has an unusable history or config")
        refuse_lookalikes(run, ("Labels",), "the image config")
        return cls(
            raw=raw,
            os=text_field(document, "os", "the image config"),
            architecture=text_field(document, "architecture", "the image config"),
            variant=text_field(document, "variant", "the image config"),
            created=text_field(document, "created", "the image config"),
            diff_ids=tuple(Digest.parse(str(diff_id)) for diff_id in diff_ids),
            history=tuple(row for row in history if isinstance(row, dict)),
            labels=text_fields(run.get("Labels"), "the image config's labels"),
        )

    def with_layer(
        self, diff_id: Digest, *, history: Mapping[str, Any], created: str, labels: Mapping[str, str]
    ) -> ImageConfig:
        """
        Add a layer with its line of history, and labels; everything else stays.

        Layers without a line get one, as from BuildKit: a history that is there has to tell of each layer (buildah).
        """
        document = _decode(self.raw, "the image config", CONFIG_LIMIT)
        document["created"] = created
        rootfs = document["rootfs"]
        rootfs["diff_ids"] = [*(rootfs["diff_ids"] or []), str(diff_id)]
        told = sum(1 for row in self.history if not row.get("empty_layer"))
        untold = [{"created": created, "comment": UNTOLD}] * (len(self.diff_ids) - told)
        document["history"] = [*(document.get("history") or []), *untold, dict(history)]
        run = dict(document.get("config") or {})
        run["Labels"] = {**(run.get("Labels") or {}), **labels}
        document["config"] = run
        return ImageConfig.parse(encode_document(document))


def _annotations(document: Mapping[str, Any]) -> Mapping[str, str]:
    return text_fields(document.get("annotations"), "the manifest's annotations")
