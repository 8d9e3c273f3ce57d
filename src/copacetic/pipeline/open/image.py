# SPDX-License-Identifier: Apache-2.0
"""
From a source to the platforms of an image, and into one platform's files.

A single image is an index of one: the rest of the flow sees only a list of `PlatformImage`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.errors import ImageError, UnsupportedImageError, UsageError
from copacetic.inventory import PackageDatabase, detect_database
from copacetic.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerstore import LayerStore
from copacetic.oci.selection import choose, find_images, read_config
from copacetic.oci.transport import Source
from copacetic.progress import Progress

OS_RELEASE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformImage:
    """One platform's manifest and config."""

    platform: Platform
    descriptor: Descriptor
    """As the index names it, or the root's own."""
    manifest: Manifest
    config: ImageConfig

    @property
    def digest(self) -> Digest:
        """What tells this image from the others: two may be for one platform."""
        return self.descriptor.digest

    @property
    def digests(self) -> frozenset[Digest]:
        """What a report may call this image by."""
        return frozenset({self.descriptor.digest, self.manifest.config.digest})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """What a reference leads to: an index (or None) and the platforms chosen from it."""

    source: Source
    root: Descriptor
    raw: bytes
    index: Index | None
    platforms: tuple[PlatformImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedImage:
    """One platform with a view into its files, and what was recognised in them."""

    image: PlatformImage
    fs: LayeredFilesystem
    distro: Distro
    database: PackageDatabase


def load_image(source: Source, platforms: Sequence[Platform]) -> SourceImage:
    """
    Read the manifests of an image, or of an index's chosen platforms (all Linux ones by default).

    Raises `UsageError` when a chosen platform is not there, `UnsupportedImageError` when no Linux platform is.
    """
    root, raw = source.root()
    if not Index.is_index(root.media_type):
        with named(source.name):
            manifest = Manifest.parse(raw, root.media_type)
        image = _describe(source, root.platform, root, manifest)
        _refuse_missing(platforms, [image.platform])
        return SourceImage(source=source, root=root, raw=raw, index=None, platforms=(image,))
    with named(source.name):
        index = Index.parse(raw, root.media_type)
        found = find_images(source, index, choose(platforms))
    _refuse_missing(platforms, [image.platform for image in found])
    images = [_describe(source, image.platform, image.descriptor, image.manifest) for image in found if image.manifest]
    if not images:
        message = f"{source.name} has no Linux platform"
        raise UnsupportedImageError(message, hint="copacetic patches Linux images")
    return SourceImage(source=source, root=root, raw=raw, index=index, platforms=tuple(images))


def _refuse_missing(wanted: Sequence[Platform], present: Iterable[Platform]) -> None:
    there = list(present)
    missing = [one for one in wanted if not any(one.matches(other) for other in there)]
    if missing:
        names = ", ".join(str(one) for one in missing)
        available = ", ".join(str(one) for one in there) or "none of them"
        raise UsageError(f"the image has no platform {names}", hint=f"it has {available}")


def _describe(source: Source, platform: Platform | None, descriptor: Descriptor, manifest: Manifest) -> PlatformImage:
    encrypted = next((layer for layer in manifest.layers if layer.media_type.endswith("+encrypted")), None)
    if encrypted is not None:
        message = f"{source.name}: the layer {encrypted.digest} is encrypted"
        raise UnsupportedImageError(message, hint="decrypt the image first, for example with skopeo copy")
    with named(source.name):
        config = read_config(source, manifest.config)
    if len(config.diff_ids) != len(manifest.layers):
        message = (
            f"{source.name}: the manifest {descriptor.digest} has {len(manifest.layers)} layers, "
            f"its config {len(config.diff_ids)}"
        )
        raise ImageError(message)
    return PlatformImage(platform=platform or config.platform, descriptor=descriptor, manifest=manifest, config=config)


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Say which image it is whose documents can't be read."""
    try:
        yield
    except ImageError as error:
        if name in str(error):
            raise
        raise type(error)(f"{name}: {error}", hint=error.hint) from error


def open_filesystem(
    source: Source, image: PlatformImage, cache: Cache, *, jobs: int, progress: Progress
) -> LayeredFilesystem:
    """Index the layers (or find their indexes in the cache), and stack them."""
    store = LayerStore(cache)
    return store.open(source, image.manifest.layers, image.config.diff_ids, jobs=jobs, progress=progress)


def recognise(image: PlatformImage, fs: LayeredFilesystem, name: str) -> OpenedImage:
    """
    Find out which distribution this is, and open its package database.

    Raises `UnsupportedImageError`, saying which of the two is missing.
    """
    distro = read_distro(fs)
    database = detect_database(fs)
    if distro is None and database is None:
        raise UnsupportedImageError(f"{name} holds no operating system: neither etc/os-release nor a package database")
    if database is None:
        assert distro is not None
        raise UnsupportedImageError(f"{name} ({distro.pretty_name}) has no package database that copacetic knows")
    if distro is None:
        raise UnsupportedImageError(f"{name} has a {database.format} database, but no etc/os-release to say whose")
    return OpenedImage(image=image, fs=fs, distro=distro, database=database)


def read_distro(fs: ImageFilesystem) -> Distro | None:
    """Read os-release where os-release(5) says it may be."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            return Distro.parse(fs.read(path, limit=OS_RELEASE_LIMIT))
        except FileNotFoundError:
            continue
    return None
