# SPDX-License-Identifier: Apache-2.0
"""
Layer directories of images, kept by chain: a layer is unpacked once for the layers below it.

What is unpacked depends on those below only where a layer writes through their links; so did the images that people
already run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from copacetic.errors import CorruptLayerError, HostileLayerError, ImageError, SolverError, StorageError
from copacetic.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform
from copacetic.oci.blobs import read_whole
from copacetic.oci.layerstream import LayerBudget, plain_layer
from copacetic.oci.manifest import CONFIG_LIMIT
from copacetic.oci.transport import Source
from copacetic.progress import Progress
from copacetic.worker.agent import Agent, JobRefusedError
from copacetic.worker.store import TREE, Run, Store

__all__ = ["LayerUnpacker", "ResolvedImage", "feed", "resolve_image"]


class ResolvedImage:
    """One platform's image of a source, before anything of its layers is fetched."""

    def __init__(self, source: Source, descriptor: Descriptor, manifest: Manifest, config: ImageConfig) -> None:
        self.source = source
        self.descriptor = descriptor
        self.manifest = manifest
        self.config = config

    @property
    def chain(self) -> list[str]:
        """
        Return, for each layer, a digest that names it and all below it.

        That is more than the specification's chain id, of which any config may claim what it likes: a layer that was
        unpacked under one is no proof that other bytes are the same layer.
        """
        chain: list[str] = []
        for layer, diff_id in zip(self.manifest.layers, self.config.diff_ids, strict=True):
            text = f"{chain[-1] if chain else ''} {layer.digest} {layer.size} {diff_id}"
            chain.append(hashlib.sha256(text.encode()).hexdigest())
        return chain


def resolve_image(source: Source, platform: Platform, *, digest: Digest | None) -> ResolvedImage:
    """
    Find the image of a platform; `digest` is that of the manifest or index that is asked for, None for whatever the
    source leads to. Raises `CopaError`.
    """
    root, raw = source.root()
    if digest is not None and root.digest != digest:
        entries = Index.parse(raw, root.media_type).manifests if Index.is_index(root.media_type) else ()
        named = next((entry for entry in entries if entry.digest == digest), None)
        if named is None:
            raise SolverError(f"{source.name} leads to {root.digest}, not to {digest}")
        root, raw = named, source.manifest(named)
    if Index.is_index(root.media_type):
        entries = Index.parse(raw, root.media_type).manifests
        found = [e for e in entries if e.platform and platform.matches(e.platform) and not Index.is_attestation(e)]
        if not found:
            there = ", ".join(str(entry.platform) for entry in entries if entry.platform) or "none"
            raise SolverError(f"{source.name} has no image for {platform}", hint=f"it has {there}")
        root, raw = found[0], source.manifest(found[0])
    manifest = Manifest.parse(raw, root.media_type)
    with source.open_blob(manifest.config) as stream:
        data = read_whole(stream, limit=CONFIG_LIMIT, where=f"the config of {source.name}")
    manifest.config.check(data, where=source.name)
    config = ImageConfig.parse(data)
    if len(config.diff_ids) != len(manifest.layers):
        raise ImageError(f"{source.name} has {len(manifest.layers)} layers and {len(config.diff_ids)} diff_ids")
    return ResolvedImage(source, root, manifest, config)


class LayerUnpacker:
    """Fills layer directories, by the helper."""

    def __init__(self, agent: Agent, store: Store, run: Run) -> None:
        self._agent = agent
        self._store = store
        self._run = run

    def unpack(self, image: ResolvedImage, progress: Progress) -> tuple[list[Path], list[int]]:
        """
        Return an image's layer directories, the lowest first, and descriptors that hold them.

        Raises `IntegrityError`, `CorruptLayerError` or `HostileLayerError` for a layer, and what the source raises.
        """
        layers: list[Path] = []
        handles: list[int] = []
        budget = LayerBudget()
        try:
            for chain, layer, diff_id in zip(image.chain, image.manifest.layers, image.config.diff_ids, strict=True):
                path, handle = self._store.layer(chain)
                handles.append(handle)
                if path is None:
                    folder = self._run.new_folder()
                    label = f"unpack layer {diff_id.encoded[:12]}"
                    with progress.task(label, total=layer.size) as task, image.source.open_blob(layer) as stream:
                        plain = plain_layer(stream, layer, diff_id, budget=budget, advance=task.advance)
                        size = self.fill(plain, folder / TREE, layers, what=f"the layer {layer.digest}")
                    path = self._store.add_layer(chain, folder, handle, size=size)
                else:
                    budget.receive(layer.size)
                layers.append(path)
        except BaseException:
            for handle in handles:
                os.close(handle)
            raise
        return layers, handles

    def fill(self, plain: Iterable[bytes], target: Path, below: list[Path], *, what: str) -> int:
        """
        Unpack a plain tar into a new directory, and return its size in bytes.

        Raises `CorruptLayerError`, `HostileLayerError`, `StorageError`.
        """
        target.mkdir(mode=0o700)
        request = {
            "target": str(target),
            "below": [str(path) for path in below],
            "single": self._agent.mode.single,
        }
        reader, writer = os.pipe()
        try:
            with self._agent.job("unpack", request, [reader]) as job:
                os.close(reader)
                reader = -1
                size = feed(plain, writer)
                os.close(writer)
                writer = -1
                job.result()
                return size
        except JobRefusedError as error:
            kinds = {"hostile": HostileLayerError, "corrupt": CorruptLayerError, "image": HostileLayerError}
            if error.kind in kinds:
                raise kinds[error.kind](f"{what} is unusable: {error}") from error
            raise StorageError(f"can't unpack {what}: {error}") from error
        finally:
            for handle in (reader, writer):
                if handle >= 0:
                    os.close(handle)


def feed(plain: Iterable[bytes], writer: int) -> int:
    """Write everything, or until the other side has heard enough; return how many bytes that were."""
    count = 0
    with contextlib.suppress(BrokenPipeError):
        for part in plain:
            view = memoryview(part)
            while view:
                written = os.write(writer, view)
                count += written
                view = view[written:]
    return count
