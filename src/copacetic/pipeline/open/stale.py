# SPDX-License-Identifier: Apache-2.0
"""
What says which packages an image has, and is wrong once they are updated: SBOMs and attestations.

Only what can be seen without asking anybody: the other entries of the image's index, and files in the image. What a
registry keeps under the image's digest (referrers, signatures) stays with the old digest anyway.
"""

from __future__ import annotations

from collections.abc import Iterator

from copacetic.pipeline.open.image import OpenedImage
from copacetic.printable import printable

__all__ = ["stale_descriptions"]

SBOM_FOLDER = "var/lib/db/sbom"
"""Where apko and melange put SPDX documents; those that packages list are replaced with them."""
MAX_NAMED = 8


def stale_descriptions(opened: OpenedImage) -> tuple[str, ...]:
    """Return a note on each kind of description that updates don't reach."""
    return (*_attestations(opened), *_documents(opened))


def _attestations(opened: OpenedImage) -> Iterator[str]:
    index = opened.image.index
    count = len(index.attestations_of(opened.variant.digest)) if index is not None else 0
    if count:
        what = "an attestation" if count == 1 else f"{count} attestations"
        yield f"the index has {what} of this image (SBOM, provenance): copied as is, about the image before updates"


def _documents(opened: OpenedImage) -> Iterator[str]:
    found = [f"{SBOM_FOLDER}/{name}" for name in opened.fs.iterdir(SBOM_FOLDER) if name.endswith(".json")]
    if not found:
        return
    owned = {
        path
        for inventory in opened.inventories
        for package in (*inventory.packages(), *inventory.assumed())
        for path in inventory.own_files(package)
    }
    loose = [printable(path) for path in found if path not in owned]
    if loose:
        shown = ", ".join(loose[:MAX_NAMED]) + (" …" if len(loose) > MAX_NAMED else "")
        doesnt = "doesn't" if len(loose) == 1 else "don't"
        yield f"{shown} {'is' if len(loose) == 1 else 'are'} no installed package's, and {doesnt} follow updates"
