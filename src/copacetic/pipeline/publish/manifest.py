# SPDX-License-Identifier: Apache-2.0
"""
The patched image: the old one's manifest and config, with one layer and one line of history more.

Everything that is not about the new layer stays as it was, unknown fields included. What is added holds only what
determines the bytes: no clock, no tool version, no snapshot of a repository.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from copacetic.oci import Descriptor, Digest, Manifest
from copacetic.pipeline.layer import NewLayer
from copacetic.pipeline.open.image import OpenedImage, PlatformImage
from copacetic.updates import Plan

__all__ = ["PatchedImage", "build_image"]

LABEL_PREFIX = "sh.copa.patch."
MAX_CREATED_BY = 4_096
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


class PatchedImage(Struct, frozen=True, kw_only=True):
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


def build_image(opened: OpenedImage, plan: Plan, layer: NewLayer, *, epoch: int) -> PatchedImage:
    """Add the layer to the manifest and to the config."""
    original = opened.variant
    lineage = _lineage(opened, plan, epoch)
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


def _lineage(opened: OpenedImage, plan: Plan, epoch: int) -> Mapping[str, str]:
    values = {
        "origin.digest": str(opened.variant.digest),
        "plan": plan_hash(plan),
        "epoch": str(epoch),
    }
    reference = opened.image.access.location.reference
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
