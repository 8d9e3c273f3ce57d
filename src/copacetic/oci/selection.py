# SPDX-License-Identifier: Apache-2.0
"""
The images of an index, told from what else may lie beside them, and one of them for destinations that hold no index.

An image is what has an image's config: attestations, signatures, SOCI indexes and files are entries too, and whoever
doesn't know an entry has to leave it alone (image-spec, image-index.md). A platform is optional in an entry, and an
index may hold indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from msgspec import Struct

from copacetic.errors import ImageError, NotFoundError, UsageError
from copacetic.oci.blobs import read_whole
from copacetic.oci.descriptor import Descriptor, Platform
from copacetic.oci.manifest import CONFIG_LIMIT, MANIFEST_TYPES, ImageConfig, Index, Manifest, is_image_config
from copacetic.oci.transport import ByteStream, Source

MAX_INDEX_DEPTH = 3
MAX_ENTRIES = 2_000
"""Of all indexes together: one may name another a thousand times."""
DOCUMENTS_LIMIT = 8 * 1024 * 1024
"""Bytes of the manifests, indexes and configs that are read for one image."""


class IndexedImage(Struct, frozen=True, kw_only=True):
    """An entry that is an image; `manifest` is None for one that nobody asked for."""

    platform: Platform
    descriptor: Descriptor
    manifest: Manifest | None = None


def find_images(source: Source, index: Index, chosen: Callable[[Platform], bool]) -> list[IndexedImage]:
    """
    List the images of an index, each once, and read the manifests of those whose platform is chosen.

    What isn't chosen and has a platform isn't read: a sparse index doesn't have it. Raises `NotFoundError` for a chosen
    one that isn't there, and `ImageError` for indexes that are nested too deeply or name too much.
    """
    found: dict[tuple[Platform, object], IndexedImage] = {}
    for image in _Walk(source, chosen).images(index, 0):
        found.setdefault((image.platform, image.descriptor.digest), image)
    return list(found.values())


def read_config(source: Source, descriptor: Descriptor) -> ImageConfig:
    """Read an image's config and check it."""
    where = f"{source.name}: {descriptor.digest}"
    if descriptor.size > CONFIG_LIMIT:
        raise ImageError(f"{where} has {descriptor.size} bytes, the limit is {CONFIG_LIMIT}")
    with source.open_blob(descriptor) as stream:
        raw = read_whole(stream, limit=CONFIG_LIMIT, where=where)
    descriptor.check(raw, where=source.name)
    return ImageConfig.parse(raw)


class _Walk:
    """One way through an index and those in it; counts what it costs."""

    def __init__(self, source: Source, chosen: Callable[[Platform], bool]) -> None:
        self._source = source
        self._chosen = chosen
        self._entries = self._bytes = 0

    def images(self, index: Index, depth: int) -> Iterator[IndexedImage]:
        name = self._source.name
        if depth > MAX_INDEX_DEPTH:
            raise ImageError(f"{name}: indexes are nested more than {MAX_INDEX_DEPTH} deep")
        for entry in index.manifests:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise ImageError(f"{name}: its indexes have more than {MAX_ENTRIES} entries")
            if Index.is_attestation(entry):
                continue
            if Index.is_index(entry.media_type):
                yield from self.images(Index.parse(self._read(entry), entry.media_type), depth + 1)
            elif entry.media_type in {*MANIFEST_TYPES, ""}:
                yield from self._image(entry)

    def _image(self, entry: Descriptor) -> Iterator[IndexedImage]:
        named = entry.platform
        if named and not self._chosen(named):
            yield IndexedImage(platform=named, descriptor=entry)
            return
        try:
            manifest = Manifest.parse(self._read(entry), entry.media_type)
        except NotFoundError as error:
            message = f"{error}, which the index lists{f' as {named}' if named else ''}"
            raise error.reworded(message, hint="choose what is there with --platform") from error
        if not is_image_config(manifest.config.media_type):
            return
        self._count(manifest.config)
        platform = named or read_config(self._source, manifest.config).platform
        yield IndexedImage(platform=platform, descriptor=entry, manifest=manifest if self._chosen(platform) else None)

    def _read(self, entry: Descriptor) -> bytes:
        self._count(entry)
        return self._source.manifest(entry)

    def _count(self, descriptor: Descriptor) -> None:
        self._bytes += descriptor.size
        if self._bytes > DOCUMENTS_LIMIT:
            message = f"the manifests and configs of its platforms have more than {DOCUMENTS_LIMIT} bytes"
            raise ImageError(f"{self._source.name}: {message}")


def choose(wanted: Sequence[Platform]) -> Callable[[Platform], bool]:
    """Return what tells whether a platform is one of those that are wanted: without any, every Linux one is."""

    def chosen(platform: Platform) -> bool:
        if wanted:
            return any(one.matches(platform) for one in wanted)
        return platform.os == "linux" and platform.architecture != "unknown"

    return chosen


class PlatformSource:
    """Leads to the image of a platform; without one, to the index's only Linux image."""

    def __init__(self, source: Source, platform: Platform | None = None) -> None:
        self.whole = source
        self._platform = platform

    @property
    def name(self) -> str:
        return self.whole.name

    def root(self) -> tuple[Descriptor, bytes]:
        """Raises `UsageError` when no image or more than one is of the platform."""
        root, raw = self.whole.root()
        if not Index.is_index(root.media_type):
            return root, raw
        images = find_images(
            self.whole, Index.parse(raw, root.media_type), choose([self._platform] if self._platform else [])
        )
        found = {image.descriptor.digest: image for image in images if image.manifest is not None}
        if len(found) != 1:
            there = ", ".join(str(image.platform) for image in images) or "none"
            wanted = f"for {self._platform}" if self._platform else "to choose from"
            message = f"{self.name} has {len(found) or 'no'} image{'s' if len(found) > 1 else ''} {wanted}"
            raise UsageError(message, hint=f"choose one with --platform; it has {there}")
        (image,) = found.values()
        assert image.manifest is not None
        return image.descriptor, image.manifest.raw

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self.whole.manifest(descriptor)

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[ByteStream]:
        return self.whole.open_blob(descriptor)


_SOURCE: type[Source] = PlatformSource
