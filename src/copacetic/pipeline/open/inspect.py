# SPDX-License-Identifier: Apache-2.0
"""What an image consists of: distribution, package database, packages, and the layer that each came with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from copacetic.documents import write_document
from copacetic.errors import UnsupportedImageError
from copacetic.inventory import PackageDatabase
from copacetic.oci import Digest, Platform
from copacetic.oci.layered import LayeredFilesystem
from copacetic.pipeline.open.image import (
    PlatformImage,
    SourceImage,
    load_image,
    open_filesystem,
    read_distro,
    recognise,
)
from copacetic.session import ImageAccess, Session
from copacetic.updates import InstalledPackage


class InspectedLayer(Struct, frozen=True, kw_only=True):
    """One layer of the image, the lowest first."""

    digest: Digest
    diff_id: Digest
    size: int
    """Compressed, in bytes."""
    created_by: str


class InspectedInventory(Struct, frozen=True, kw_only=True):
    """One package database of the image."""

    package_type: str
    format: str
    path: str
    packages: tuple[tuple[InstalledPackage, int | None], ...]
    """Each with the position of the layer that its present version came with, where the files tell."""


class InspectedPlatform(Struct, frozen=True, kw_only=True):
    """One platform of the image."""

    platform: Platform
    digest: Digest
    distro: str
    inventories: tuple[InspectedInventory, ...]
    """The distribution's own is the first."""
    problem: str
    """Why there is nothing that copacetic can use; otherwise empty."""
    layers: tuple[InspectedLayer, ...]


class Inspection(Struct, frozen=True, kw_only=True):
    """An image, as copacetic sees it."""

    image: str
    digest: Digest
    platforms: tuple[InspectedPlatform, ...]

    def to_json(self) -> bytes:
        """Return the documented object (docs/reference/json.md), ending in a newline."""
        return write_document(
            "inspection",
            {
                "image": self.image,
                "digest": str(self.digest),
                "platforms": [_document(platform) for platform in self.platforms],
            },
        )


def inspect_image(access: ImageAccess, platforms: Sequence[Platform], session: Session) -> Inspection:
    """Look into every chosen platform; one without an operating system is described, not refused."""
    image = load_image(access, platforms)
    return Inspection(
        image=image.name,
        digest=image.root.digest,
        platforms=tuple(_inspect(image, variant, session) for variant in image.variants),
    )


def _inspect(image: SourceImage, variant: PlatformImage, session: Session) -> InspectedPlatform:
    fs = open_filesystem(image, variant, session)
    try:
        opened = recognise(image, variant, fs)
    except UnsupportedImageError as error:
        found = read_distro(fs)
        distro, problem = found.pretty_name if found else "", str(error)
        inventories: tuple[InspectedInventory, ...] = ()
    else:
        distro, problem = opened.distro.pretty_name, ""
        inventories = tuple(_inspect_inventory(opened.fs, inventory) for inventory in opened.inventories)
    return InspectedPlatform(
        platform=variant.platform,
        digest=variant.digest,
        distro=distro,
        inventories=inventories,
        problem=problem,
        layers=_layers(variant),
    )


def _inspect_inventory(fs: LayeredFilesystem, inventory: PackageDatabase) -> InspectedInventory:
    def layer_of(package: InstalledPackage) -> int | None:
        """Return the highest layer that has a file of the package: an upgrade rewrites some, if not all, of them."""
        positions = (fs.layer_of(fs.resolve(path)) for path in inventory.own_files(package))
        return max((position for position in positions if position is not None), default=None)

    return InspectedInventory(
        package_type=inventory.package_type,
        format=inventory.format,
        path=inventory.path,
        packages=tuple((package, layer_of(package)) for package in inventory.packages()),
    )


def _layers(variant: PlatformImage) -> tuple[InspectedLayer, ...]:
    created_by = [row.get("created_by", "") for row in variant.config.history if not row.get("empty_layer")]
    created_by += [""] * (len(variant.manifest.layers) - len(created_by))
    return tuple(
        InspectedLayer(digest=layer.digest, diff_id=diff_id, size=layer.size, created_by=str(created))
        for layer, diff_id, created in zip(variant.manifest.layers, variant.config.diff_ids, created_by, strict=False)
    )


def _document(platform: InspectedPlatform) -> dict[str, Any]:
    return {
        "platform": str(platform.platform),
        "digest": str(platform.digest),
        "distro": platform.distro or None,
        "problem": platform.problem or None,
        "layers": [
            {
                "digest": str(layer.digest),
                "diffId": str(layer.diff_id),
                "size": layer.size,
                "createdBy": layer.created_by,
            }
            for layer in platform.layers
        ],
        "inventories": [_inventory_document(inventory) for inventory in platform.inventories],
    }


def _inventory_document(inventory: InspectedInventory) -> dict[str, Any]:
    return {
        "packageType": inventory.package_type,
        "format": inventory.format,
        "path": inventory.path,
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "architecture": package.architecture,
                "sourceName": package.source_name,
                "sourceVersion": package.source_version,
                "held": package.held,
                "state": package.state or None,
                "layer": layer,
            }
            for package, layer in inventory.packages
        ],
    }
