# SPDX-License-Identifier: Apache-2.0
"""
From a source to the platforms of an image, and into one platform's files.

A single image is an index of one: the rest of the flow sees only a list of `PlatformImage`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from copacetic import families
from copacetic.cache import Cache
from copacetic.distro import Distro
from copacetic.errors import ImageError, UnsupportedImageError, UsageError
from copacetic.inventory import PackageDatabase, detect_databases
from copacetic.keep import KeepRule, KeepRules
from copacetic.loader import load
from copacetic.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerstore import LayerStore
from copacetic.oci.selection import choose, find_images, read_config
from copacetic.oci.transport import Source
from copacetic.session import ImageAccess, Session

OS_RELEASE_LIMIT = 64 * 1024
KEEP = (
    KeepRule("etc/"),
    KeepRule("usr/lib/os-release"),
    # What a bundle of certificates is made of, whichever package's script does it.
    KeepRule("usr/local/share/ca-certificates/"),
    KeepRule("usr/share/ca-certificates/"),
)
"""Files of layers that no family of packages has to itself."""


class PlatformImage(Struct, frozen=True, kw_only=True):
    """A variant of an image: one platform's manifest and config."""

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


class SourceImage(Struct, frozen=True, kw_only=True):
    """What a location leads to: an index (or None) and the variants chosen from it."""

    access: ImageAccess
    root: Descriptor
    raw: bytes
    index: Index | None
    variants: tuple[PlatformImage, ...]

    @property
    def source(self) -> Source:
        return self.access.source

    @property
    def name(self) -> str:
        """For people, plans and labels."""
        return self.access.source.name


class OpenedImage(Struct, frozen=True, kw_only=True):
    """One variant of an image with a view into its files, and what was recognised in them."""

    image: SourceImage
    variant: PlatformImage
    fs: LayeredFilesystem
    distro: Distro
    inventories: tuple[PackageDatabase, ...]
    """At least one, each of another type of package. The first is the distribution's own."""

    @property
    def own(self) -> PackageDatabase:
        """What the distribution's packages are listed in."""
        return self.inventories[0]

    def inventory(self, package_type: str) -> PackageDatabase:
        """Raises `UnsupportedImageError` for a type of package that the image has none of."""
        found = {inventory.package_type: inventory for inventory in self.inventories}
        if package_type not in found:
            message = f"the plan is for {package_type} packages, the image has {' and '.join(found)}"
            raise UnsupportedImageError(message)
        return found[package_type]


def load_image(access: ImageAccess, platforms: Sequence[Platform]) -> SourceImage:
    """
    Read the manifests of an image, or of an index's chosen platforms (all Linux ones by default).

    Raises `UsageError` when a chosen platform is not there, `UnsupportedImageError` when no Linux platform is.
    """
    source = access.source
    root, raw = source.root()
    if not Index.is_index(root.media_type):
        with named(source.name):
            manifest = Manifest.parse(raw, root.media_type)
        variant = _describe(source, root.platform, root, manifest)
        _refuse_missing(platforms, [variant.platform])
        return SourceImage(access=access, root=root, raw=raw, index=None, variants=(variant,))
    with named(source.name):
        index = Index.parse(raw, root.media_type)
        found = find_images(source, index, choose(platforms))
    _refuse_missing(platforms, [image.platform for image in found])
    variants = [_describe(source, one.platform, one.descriptor, one.manifest) for one in found if one.manifest]
    if not variants:
        message = f"{source.name} has no Linux platform"
        raise UnsupportedImageError(message, hint="copacetic patches Linux images")
    return SourceImage(access=access, root=root, raw=raw, index=index, variants=tuple(variants))


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
        raise error.reworded(f"{name}: {error}") from error


def layer_store(cache: Cache) -> LayerStore:
    """Return what is known of layers, in a cache."""
    return LayerStore(cache, keep_rules())


def keep_rules() -> tuple[KeepRules, ...]:
    """Return the rules by which files of layers are kept: everybody's, and those of each family of packages."""
    return tuple(KeepRules(keep) for keep in (KEEP, *(family.keep for family in families.FAMILIES)) if keep)


def open_filesystem(
    image: SourceImage, variant: PlatformImage, session: Session, meanwhile: Callable[[], object] = bool
) -> LayeredFilesystem:
    """Index the layers (or find their indexes in the cache), and stack them; see `LayerStore.open`."""
    store = layer_store(session.cache)
    layers, diff_ids = variant.manifest.layers, variant.config.diff_ids
    transfers, progress = session.budget.transfers, session.progress
    return store.open(image.source, layers, diff_ids, transfers=transfers, progress=progress, meanwhile=meanwhile)


def open_image(image: SourceImage, variant: PlatformImage, session: Session) -> OpenedImage:
    """Look into a variant's files; see `recognise`."""
    return recognise(image, variant, open_filesystem(image, variant, session, _import_ahead))


def _import_ahead() -> None:
    """Import what any image needs next: while layers are inflated there is time for that."""
    for module in ("urllib3", "copacetic.unpack", "copacetic.scripts.judge"):
        load(module)


def recognise(image: SourceImage, variant: PlatformImage, fs: LayeredFilesystem) -> OpenedImage:
    """
    Find out which distribution this is, and open the package databases.

    Raises `UnsupportedImageError`, saying which of the two is missing.
    """
    name = image.name
    distro = read_distro(fs)
    inventories = detect_databases(fs, _package_type(distro) if distro is not None else "")
    if distro is None and not inventories:
        raise UnsupportedImageError(f"{name} holds no operating system: neither etc/os-release nor a package database")
    if not inventories:
        assert distro is not None
        raise UnsupportedImageError(f"{name} ({distro.pretty_name}) has no package database that copacetic knows")
    if distro is None:
        raise UnsupportedImageError(
            f"{name} has a {inventories[0].format} database, but no etc/os-release to say whose"
        )
    return OpenedImage(image=image, variant=variant, fs=fs, distro=distro, inventories=inventories)


def _package_type(distro: Distro) -> str:
    """Return the type of a distribution's own packages, empty for one that isn't known."""
    types = (families.type_of_report(name) for name in (distro.id, *distro.id_like))
    return next(filter(None, types), "")


def read_distro(fs: ImageFilesystem) -> Distro | None:
    """Read os-release where os-release(5) says it may be."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            return Distro.parse(fs.read(path, limit=OS_RELEASE_LIMIT))
        except FileNotFoundError:
            continue
    return None
