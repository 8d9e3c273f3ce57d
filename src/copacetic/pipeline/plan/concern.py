# SPDX-License-Identifier: Apache-2.0
"""Which report is about which variant of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from copacetic.errors import ReportError
from copacetic.oci import Digest
from copacetic.pipeline.open.image import SourceImage
from copacetic.updates import Finding, Report

__all__ = ["select_reports"]


def select_reports(
    reports: Sequence[Report], image: SourceImage, *, lenient: bool
) -> Mapping[Digest, tuple[Finding, ...] | None]:
    """
    Tell which findings concern which variant (by its digest); None stands for one that no report is about.

    Without any report every variant maps to no findings at all, which is handled by the caller.
    Raises `ReportError` when a report is about another image (unless `lenient`).
    """
    found: dict[Digest, tuple[Finding, ...] | None] = {variant.digest: None for variant in image.variants}
    about = [(report, _variants_of(report, image)) for report in reports]
    usable = {report.path for report, concerned in about if concerned}
    for report, concerned in about:
        if not concerned and report.path in usable:
            continue  # the file is about other images, too
        if not concerned and not lenient:
            named = ", ".join(sorted(str(digest) for digest in report.image_digests)) or report.architecture
            message = f"{report.path} is about another image: it names {named}, {image.name} is {image.root.digest}"
            hint = "scan this image again; --ignore-errors uses the report all the same"
            raise ReportError(message, hint=hint)
        for digest in concerned or list(found):
            found[digest] = (*(found[digest] or ()), *report.findings)
    return found


def _variants_of(report: Report, image: SourceImage) -> list[Digest]:
    """A digest of one platform decides; otherwise the architecture does, and one that names neither is about all."""
    if report.image_digests:
        exact = [p for p in image.variants if p.digests & report.image_digests]
        if exact:
            return [p.digest for p in exact]
        if image.root.digest not in report.image_digests:
            return []
    return [
        p.digest for p in image.variants if not report.architecture or report.architecture == p.platform.architecture
    ]
