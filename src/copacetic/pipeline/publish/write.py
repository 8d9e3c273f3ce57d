# SPDX-License-Identifier: Apache-2.0
"""
The patched image: the old one's manifest and config, with one layer and one line of history more.

Everything that is not about the new layer stays as it was, unknown fields included. What is added holds only what
determines the bytes: no clock, no tool version, no snapshot of a repository.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from copacetic.errors import NotFoundError
from copacetic.oci import Descriptor, Digest, Index, Manifest
from copacetic.oci.location import Location
from copacetic.oci.manifest import ARTIFACT_MANIFEST, MANIFEST_TYPES, artifact_blobs, is_distributable
from copacetic.oci.transport import Destination, Source
from copacetic.pipeline.apply.kept import NewLayer
from copacetic.pipeline.open.image import PlatformImage, SourceImage
from copacetic.updates import Plan

LABEL_PREFIX = "sh.copa.patch."
MAX_CREATED_BY = 4_096
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchedImage:
    """One platform's new manifest and config, ready to be written."""

    original: PlatformImage
    descriptor: Descriptor
    manifest: Manifest
    config: bytes
    layer: NewLayer


def plan_hash(plan: Plan) -> str:
    """Return a digest of the packages that the plan installs, the same for every image that gets the same."""
    rows = sorted(
        f"{u.candidate.name} {u.candidate.architecture} {u.candidate.version} {u.candidate.sha256}"
        for u in plan.updates
    )
    return "sha256:" + hashlib.sha256("\n".join(rows).encode()).hexdigest()


def build_image(original: PlatformImage, plan: Plan, layer: NewLayer, *, epoch: int) -> PatchedImage:
    """Add the layer to the manifest and to the config."""
    lineage = _lineage(original, plan, epoch)
    created = _created(original, epoch)
    history = {
        "created": created,
        "created_by": _created_by(plan),
        "comment": "copacetic",
    }
    config = original.config.with_layer(layer.diff_id, history=history, created=created, labels=lineage)
    config_descriptor = Descriptor(
        media_type=original.manifest.config.media_type, digest=Digest.of(config.raw), size=len(config.raw)
    )
    manifest = original.manifest.with_layer(config_descriptor, layer.descriptor, annotations=lineage)
    descriptor = Descriptor(
        media_type=manifest.media_type,
        digest=Digest.of(manifest.raw),
        size=len(manifest.raw),
        platform=original.descriptor.platform,
    )
    return PatchedImage(original=original, descriptor=descriptor, manifest=manifest, config=config.raw, layer=layer)


def _lineage(original: PlatformImage, plan: Plan, epoch: int) -> Mapping[str, str]:
    values = {
        "origin.digest": str(original.descriptor.digest),
        "plan": plan_hash(plan),
        "epoch": str(epoch),
    }
    reference = Location.parse(plan.image).reference
    if reference is not None:  # a path on somebody's disk says nothing to others
        values["origin.name"] = reference.public_name
    return {LABEL_PREFIX + key: value for key, value in sorted(values.items())}


def _created(original: PlatformImage, epoch: int) -> str:
    """Return the later of the image's own date and the epoch, so that the result is never older than its base."""
    now = datetime.fromtimestamp(epoch, UTC)
    before = _parse_date(original.config.created)
    return original.config.created if before is not None and before > now else now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_date(text: str) -> datetime | None:
    """Return a moment (RFC 3339); None for what isn't one, which no new row of the history repeats."""
    if not _DATE.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _created_by(plan: Plan) -> str:
    packages = " ".join(f"{u.candidate.name}={u.candidate.version}" for u in plan.updates)
    text = f"copa patch {packages}"
    return text if len(text) <= MAX_CREATED_BY else text[: MAX_CREATED_BY - 1] + "…"


def write_image(
    image: SourceImage, patched: Mapping[Digest, PatchedImage], destination: Destination, *, scratch: Path, jobs: int
) -> tuple[Descriptor, bytes]:
    """
    Write everything that the result consists of, and return the manifest or index that is to be published.

    `patched` maps the digests of original manifests to what replaces them. Of an index, all other entries are
    copied as they are.
    """
    with ThreadPoolExecutor(jobs) as pool:
        for new in patched.values():
            _write_blobs(image.source, new, destination, scratch, pool)
        if image.index is None:
            (new,) = patched.values()
            return new.descriptor, new.manifest.raw
        for new in patched.values():
            destination.write_manifest(new.descriptor, new.manifest.raw)
        index = _replace(image.source, image.index, patched, destination, pool)
        return _describe(index), index.raw


def _describe(index: Index) -> Descriptor:
    return Descriptor(media_type=index.media_type, digest=Digest.of(index.raw), size=len(index.raw))


def _replace(
    source: Source,
    index: Index,
    patched: Mapping[Digest, PatchedImage],
    destination: Destination,
    pool: ThreadPoolExecutor,
) -> Index:
    """Let the entries point to what replaces them, also those of indexes in this one, and copy all others."""
    made = index
    for entry in index.manifests:
        if entry.digest in patched:
            made = made.replace(entry, patched[entry.digest].descriptor)
        elif Index.is_index(entry.media_type):
            nested = Index.parse(source.manifest(entry), entry.media_type)
            new = _replace(source, nested, patched, destination, pool)
            destination.write_manifest(_describe(new), new.raw)
            if new is not nested:
                made = made.replace(entry, _describe(new))
        else:
            copy_entry(source, entry, destination, pool)
    return made


def _write_blobs(
    source: Source, new: PatchedImage, destination: Destination, scratch: Path, pool: ThreadPoolExecutor
) -> None:
    config = scratch / new.manifest.config.digest.encoded
    config.write_bytes(new.config)
    _copy_blobs(source, new.original.manifest.layers, destination, pool)
    destination.write_blob(new.layer.descriptor, new.layer.path)
    destination.write_blob(new.manifest.config, config)


def _copy_blobs(
    source: Source, descriptors: Iterable[Descriptor], destination: Destination, pool: ThreadPoolExecutor
) -> None:
    unique = {d.digest: d for d in descriptors if is_distributable(d)}
    for _ in pool.map(lambda descriptor: destination.copy_blob(descriptor, source), unique.values()):
        pass


def copy_entry(source: Source, entry: Descriptor, destination: Destination, pool: ThreadPoolExecutor) -> None:
    """
    Copy what an entry of an index names, byte for byte.

    A manifest that the source doesn't have isn't missed: the index was sparse before. What is no manifest that anybody
    knows is a blob, or else a document.
    """
    if entry.media_type not in {*MANIFEST_TYPES, ARTIFACT_MANIFEST, ""}:
        try:
            destination.copy_blob(entry, source)
        except NotFoundError:
            _copy_document(source, entry, destination)
        return
    try:
        raw = source.manifest(entry)
    except NotFoundError:
        return
    if entry.media_type == ARTIFACT_MANIFEST:
        blobs = artifact_blobs(raw)
    else:
        manifest = Manifest.parse(raw, entry.media_type)
        blobs = (manifest.config, *manifest.layers)
    _copy_blobs(source, blobs, destination, pool)
    destination.write_manifest(entry, raw)


def _copy_document(source: Source, entry: Descriptor, destination: Destination) -> None:
    try:
        destination.write_manifest(entry, source.manifest(entry))
    except NotFoundError:
        return
