# SPDX-License-Identifier: Apache-2.0
"""From proven layers to manifests, and to a destination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from copacetic.oci import Digest
from copacetic.oci.transport import Destination, Published
from copacetic.pipeline.open.image import SourceImage
from copacetic.pipeline.publish.manifest import PatchedImage
from copacetic.pipeline.publish.write import ImageWriter
from copacetic.session import Session

__all__ = ["Publisher"]


class Publisher:
    """Writes a result where it shall go; the destination is opened only when there is something to write."""

    def __init__(self, destination: Callable[[], Destination], scratch: Path, session: Session) -> None:
        self._destination = destination
        self._scratch = scratch
        self._session = session

    def publish(self, image: SourceImage, patched: Mapping[Digest, PatchedImage]) -> Published:
        """Write everything, and give it its name in one step. `patched`: see `ImageWriter`."""
        progress = self._session.progress
        transfers = self._session.budget.transfers
        with self._destination() as destination, progress.task(f"write {destination.name}"):
            writer = ImageWriter(image.source, destination, transfers, self._scratch)
            root = writer.write(image, patched)
            progress.publishing(destination.name)
            published = destination.publish(*root)
            progress.published(published.reference)
            return published
