# SPDX-License-Identifier: Apache-2.0
"""Documents about many images: each image's findings become a report of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from copacetic.errors import ReportError
from copacetic.report.grammar import FindingBuilder
from copacetic.updates import Report

__all__ = ["ImageFindings"]

MAX_REPEATED = 100_000


class ImageFindings:
    """Collects the findings of one document by the digest of the image that they are about."""

    def __init__(self, scanner: str, path: str) -> None:
        self._scanner = scanner
        self._path = path
        self._builders: dict[str, tuple[FindingBuilder, dict[str, Any]]] = {}
        self._elsewhere = 0
        self._repeated = 0

    def about(self, digest: object, **facts: object) -> FindingBuilder | None:
        """
        Return the builder for an image, and remember what `FindingBuilder.report` is to say of it; None for what is no
        image.
        """
        if not isinstance(digest, str) or not digest:
            self._elsewhere += 1
            return None
        return self._builders.setdefault(digest, (FindingBuilder(self._scanner, self._path), facts))[0]

    def check(self, resources: Sequence[object] | None, packages: Sequence[object] | None) -> None:
        """Raises `ReportError` when findings about several images stand for too many."""
        self._repeated += max(len(resources or ()) - 1, 0) * len(packages or ())
        if self._repeated > MAX_REPEATED:
            raise ReportError(f"the report {self._path} repeats its packages for more than {MAX_REPEATED} images")

    def reports(self) -> list[Report]:
        """Raises `ReportError` when all is about something that is no image."""
        if not self._builders and self._elsewhere:
            raise ReportError(
                f"the report {self._path} is about no image: {self._elsewhere} findings are of other things"
            )
        first = next((builder for builder, _ in self._builders.values()), FindingBuilder(self._scanner, self._path))
        for _ in range(self._elsewhere):
            first.refuse("resources that are no image")
        reports = [
            builder.report(image_digests=[digest], **facts) for digest, (builder, facts) in self._builders.items()
        ]
        return reports or [first.report()]
