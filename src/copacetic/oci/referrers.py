# SPDX-License-Identifier: Apache-2.0
"""
Documents beside an image, as OCI's specifications 1.1 have them: manifests that name the image as their subject.

A registry with the referrers API lists them by itself. For one without, and in a layout, they are listed in an index
under a tag that is made from the subject's digest; that list is shared with everybody else who attaches something.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from msgspec import Struct

from copacetic.errors import ImageError
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.manifest import OCI_INDEX, OCI_MANIFEST, Index, detect_media_type, encode_document

_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


class Document(Struct, frozen=True, kw_only=True):
    """What is put beside an image; the same document about the same image gives the same bytes."""

    media_type: str
    """Also the type of artifact by which it is found."""
    data: bytes
    annotations: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Document({self.media_type}, {len(self.data)} bytes)"


class Referrer(Struct, frozen=True, kw_only=True):
    """The manifest of a document; `descriptor` is how lists have it."""

    descriptor: Descriptor
    raw: bytes
    blobs: tuple[tuple[Descriptor, bytes], ...]


def make_referrer(subject: Descriptor, document: Document) -> Referrer:
    """Describe a document about what `subject` points to."""
    config, blob = _describe(_EMPTY_TYPE, _EMPTY), _describe(document.media_type, document.data)
    about = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    annotations = dict(sorted(document.annotations.items()))
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": document.media_type,
        "config": config.to_json(),
        "layers": [blob.to_json()],
        "subject": about.to_json(),
        **({"annotations": annotations} if annotations else {}),
    }
    raw = encode_document(manifest)
    descriptor = Descriptor(
        media_type=OCI_MANIFEST,
        digest=Digest.of(raw),
        size=len(raw),
        annotations=annotations,
        artifact_type=document.media_type,
    )
    return Referrer(descriptor=descriptor, raw=raw, blobs=((config, _EMPTY), (blob, document.data)))


def referrers_tag(subject: Digest) -> str:
    """Return the tag under which a digest's referrers are listed (distribution-spec, referrers tag schema)."""
    return f"{subject.algorithm}-{subject.encoded[:64]}"


def list_referrer(raw: bytes | None, referrer: Descriptor, where: str) -> tuple[Descriptor, bytes]:
    """
    Return a list of referrers that has this one, and all that was listed before.

    The bytes are the same when it is there already. Raises `ImageError` for something else than a list.
    """
    if raw is None:
        raw = encode_document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    try:
        listed = Index.parse(raw).manifests
        if detect_media_type(raw) != OCI_INDEX:
            raise ImageError("not an OCI index")  # noqa: TRY301
    except ImageError as error:
        raise ImageError(f"{where} is no list of referrers, so nothing is added to it: {error}") from error
    if all(entry.digest != referrer.digest for entry in listed):
        document = json.loads(raw)
        document["manifests"] = [*(document["manifests"] or []), referrer.to_json()]
        raw = encode_document(document)
    return _describe(OCI_INDEX, raw), raw


def _describe(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))
