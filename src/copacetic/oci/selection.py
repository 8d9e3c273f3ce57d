# SPDX-License-Identifier: Apache-2.0
"""
One platform's image out of a source that may hold an index, for destinations that can't hold one.

A source that leads to a single image is passed through as it is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from copacetic.errors import UsageError
from copacetic.oci.descriptor import Descriptor, Platform
from copacetic.oci.manifest import Index
from copacetic.oci.transport import ByteStream, Source


class PlatformSource:
    """Leads to the image of a platform; without one, to the index's only Linux image."""

    def __init__(self, source: Source, platform: Platform | None = None) -> None:
        self._source = source
        self._platform = platform

    @property
    def name(self) -> str:
        return self._source.name

    def root(self) -> tuple[Descriptor, bytes]:
        """Raises `UsageError` when no image or more than one is of the platform."""
        root, raw = self._source.root()
        if not Index.is_index(root.media_type):
            return root, raw
        entries = [e for e in Index.parse(raw, root.media_type).manifests if e.platform and not Index.is_attestation(e)]
        found = [entry for entry in entries if self._wants(entry.platform)]
        if len({entry.digest for entry in found}) != 1:
            there = ", ".join(str(entry.platform) for entry in entries) or "none"
            wanted = f"for {self._platform}" if self._platform else "to choose from"
            message = f"{self.name} has {len(found) or 'no'} image{'s' if len(found) > 1 else ''} {wanted}"
            raise UsageError(message, hint=f"choose one with --platform; it has {there}")
        return found[0], self._source.manifest(found[0])

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._source.manifest(descriptor)

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[ByteStream]:
        return self._source.open_blob(descriptor)

    def _wants(self, platform: Platform | None) -> bool:
        assert platform is not None
        return self._platform.matches(platform) if self._platform else platform.os == "linux"


_SOURCE: type[Source] = PlatformSource
