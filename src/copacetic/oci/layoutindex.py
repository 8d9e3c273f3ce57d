# SPDX-License-Identifier: Apache-2.0
"""
The index.json of a layout: which entry a name leads to, and how one gets another image, or a document beside it.

An entry's tag is its annotation `org.opencontainers.image.ref.name`. Documents are entries, too, some under tags made
from digests; whoever asks for the layout's only image doesn't mean them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from copacetic.errors import CopaError, ImageError, NotFoundError, UsageError
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.manifest import OCI_INDEX, Index, detect_media_type, encode_document
from copacetic.oci.reference import Reference

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
_SHOWN_TAGS = 20
_ABOUT_DIGEST = re.compile(r"sha(?:256|512)-[0-9a-f]{64}(?:\.[a-z]+)?")
"""Tags for lists of referrers, and cosign's for signatures, attestations and SBOMs."""


def find_root(raw: bytes, tag: str, where: str, read: Callable[[Descriptor], bytes]) -> tuple[Descriptor, bytes]:
    """Return what a tag leads to in an index.json, which may be the image's own index; raises as `select_entry`."""
    entry = select_entry(raw, tag, where)
    document = raw if entry.digest == Digest.of(raw) else read(entry)
    return replace(entry, media_type=entry.media_type or detect_media_type(document)), document


def select_entry(raw: bytes, tag: str, where: str) -> Descriptor:
    """
    Choose the entry of an index.json that a tag, or a whole name, leads to; without one there must be only one.

    Raises `ImageError` for a broken index, `NotFoundError` for an unknown tag, `UsageError` for a missing one.
    """
    entries = _read(raw, where)[1]
    found = _named(entries, tag) if tag else [entry for entry in entries if not _is_document(entry)] or entries
    if not found:
        if tag:
            hint = f"it has {listed}" if (listed := _names(entries)) else "none of its images has a tag"
            raise NotFoundError(f"{where}: there is no tag {tag}", hint=hint)
        raise NotFoundError(f"{where} holds no image", hint="its index.json has no entries")
    if len({entry.digest for entry in found}) > 1:
        if not tag and _is_image(found):
            return Descriptor(media_type=OCI_INDEX, digest=Digest.of(raw), size=len(raw))
        what = f"has {len(found)} images" + (f" with the tag {tag}" if tag else "")
        raise UsageError(f"{where} {what}", hint=f"append :TAG; it has {_names(found) or 'no tags'}")
    return found[0]


def _named(entries: Sequence[Descriptor], tag: str) -> Sequence[Descriptor]:
    """A tag leads to what has it as its name here; docker and containerd write the whole name beside it."""
    found = [entry for entry in entries if _tag_of(entry) == tag]
    whole = [entry for entry in entries if entry.annotations.get(IMAGE_NAME) in {tag, _complete(tag)}]
    return whole or found


def _complete(tag: str) -> str:
    try:
        return str(Reference.parse(tag)) if "/" in tag or ":" in tag else ""
    except CopaError:
        return ""


def _names(entries: Sequence[Descriptor]) -> str:
    """What can be appended: tags, and whole names where one tag leads to several images."""
    tags = Counter(map(_tag_of, entries))
    names = set()
    for entry in entries:
        tag = _tag_of(entry)
        names.add(entry.annotations.get(IMAGE_NAME, tag) if tags[tag] > 1 else tag)
    shown = sorted(filter(None, names))
    return ", ".join(shown[:_SHOWN_TAGS]) + (", …" if len(shown) > _SHOWN_TAGS else "")


def _is_image(entries: Sequence[Descriptor]) -> bool:
    """Tell whether index.json is one image's index itself: entries without names, each with a platform of its own."""
    images = [entry for entry in entries if not Index.is_attestation(entry)]
    platforms = {entry.platform for entry in images}
    nameless = not any(entry.annotations.get(name) for entry in entries for name in (REF_NAME, IMAGE_NAME))
    return nameless and None not in platforms and len(platforms) == len(images)


def replace_entry(raw: bytes | None, entry: Descriptor, tag: str, where: str) -> bytes:
    """
    Return an index.json that names `entry` by `tag`; all other entries and fields stay.

    Without a tag the index may hold no other image than one without a tag, which is replaced: otherwise nobody could
    tell the images apart.
    """
    document, known = _read(raw, where)
    same = [n for n, old in enumerate(known) if _tag_of(old) == tag and (tag or not _is_document(old))]
    others = [n for n, old in enumerate(known) if n not in same and not _is_document(old)]
    if not tag and (others or len(same) > 1):
        raise UsageError(f"{where} holds other images", hint="append :TAG, so that this one has a name of its own")
    new = entry.to_json()
    annotations = {k: v for k, v in entry.annotations.items() if k != REF_NAME}
    if tag:
        annotations[REF_NAME] = tag
    new.pop("annotations", None)
    if annotations:
        new["annotations"] = annotations
    entries = document["manifests"] or []
    at = same[0] if same else len(entries)
    kept = [old for n, old in enumerate(entries) if n not in same]
    document["manifests"] = [*kept[:at], new, *kept[at:]]
    return encode_document(document)


def add_entry(raw: bytes, entry: Descriptor, where: str) -> bytes:
    """Return an index.json that has an entry without a name, once."""
    document, known = _read(raw, where)
    if any(old.digest == entry.digest for old in known):
        return raw
    document["manifests"] = [*(document["manifests"] or []), entry.to_json()]
    return encode_document(document)


def find_tag(raw: bytes, tag: str, where: str) -> Descriptor | None:
    """Return the entry that has exactly this tag."""
    return next((entry for entry in _read(raw, where)[1] if _tag_of(entry) == tag), None)


def _read(raw: bytes | None, where: str) -> tuple[dict[str, Any], Sequence[Descriptor]]:
    if raw is None:
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, ()
    try:
        known = Index.parse(raw, OCI_INDEX).manifests
    except ImageError as error:
        raise ImageError(f"{where}: index.json is unusable: {error}") from error
    return json.loads(raw), known


def _tag_of(entry: Descriptor) -> str:
    return entry.annotations.get(REF_NAME, "")


def _is_document(entry: Descriptor) -> bool:
    """Tell what lies beside images from images themselves."""
    return bool(entry.artifact_type or _ABOUT_DIGEST.fullmatch(_tag_of(entry)))
