# SPDX-License-Identifier: Apache-2.0
"""What a user asks for, validated once, here."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from copacetic.updates import Strategy

__all__ = ["LayerCompression", "PatchRequest", "Strategy"]


class LayerCompression(StrEnum):
    """How the new layer is compressed."""

    AUTO = "auto"
    """As the image's top layer is; plain and gzip layers give gzip."""
    GZIP = "gzip"
    ZSTD = "zstd"


class PatchRequest(Struct, frozen=True, kw_only=True):
    """One image to plan or patch."""

    image: str
    """`[registry/]repository[:tag][@digest]`, or a place of another kind, as in `oci:DIR:TAG` (`oci.transports`)."""
    reports: tuple[Path, ...] = ()
    """
    Reports of any supported scanner; none takes every available update. A directory stands for its files, `-` for
    standard input.
    """
    report_format: str = ""
    """A name in `report.SCANNERS` that all reports have; empty recognises each one's."""
    platforms: tuple[str, ...] = ()
    """os/architecture[/variant]; empty takes all Linux platforms of an index."""
    tag: str = ""
    """A tag, or a full reference; the default adds `-patched` to the image's tag."""
    destination: str = ""
    """Where the result goes, as `image` is written; empty together with `push=False` publishes nothing."""
    push: bool = False
    """Push to the image's own repository (or to `tag`, when that is a full reference)."""
    plan_file: Path | None = None
    """Apply exactly this plan."""
    trust_plan: bool = False
    """Install what the plan names although no signed index says so; the outcome says that nothing was verified."""
    ignore_errors: bool = False
    """Go on with what can be fixed."""
    package_types: frozenset[str] = frozenset({"os"})
    strategy: Strategy = Strategy.AUTO
    compression: LayerCompression = LayerCompression.AUTO
    documents: frozenset[str] = frozenset()
    """Formats of `attest.FORMATS`, for `Outcome.documents`: made before anything is published."""
    attach: frozenset[str] = frozenset()
    """Those that are put beside the image, where its destination can do that."""
    epoch: int | None = None
    """SOURCE_DATE_EPOCH, in seconds; None derives it from the image and the packages."""
