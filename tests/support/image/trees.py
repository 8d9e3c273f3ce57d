# SPDX-License-Identifier: Apache-2.0
"""Images' trees from a few lines: what a test says is in them goes through a real tar and the real index."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from copacetic.compression import decompress
from copacetic.oci import Descriptor, Digest
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.layered import IndexedLayer, LayeredFilesystem
from copacetic.oci.layerindex import LayerIndex, Row, scan_layer, unpack_text
from copacetic.oci.manifest import OCI_LAYER
from support.image.images import assert_valid_image, read_blob

Content = bytes | str | Entry
"""A file's content (bytes or text), or an entry: a directory, a link (`Entry(type=SYMLINK, target=…)`), a device."""

_KINDS = {
    FileType.DIRECTORY: tarfile.DIRTYPE,
    FileType.SYMLINK: tarfile.SYMTYPE,
    FileType.FIFO: tarfile.FIFOTYPE,
    FileType.CHARACTER_DEVICE: tarfile.CHRTYPE,
    FileType.BLOCK_DEVICE: tarfile.BLKTYPE,
}


def directory(mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    return Entry(type=FileType.DIRECTORY, mode=mode, uid=uid, gid=gid)


def symlink(target: str) -> Entry:
    return Entry(type=FileType.SYMLINK, mode=0o777, target=target)


def layer_tar(entries: Mapping[str, Content]) -> bytes:
    """Return a plain tar of the entries, in their order; files are 0644 root:root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in entries.items():
            member = tarfile.TarInfo(path)
            data = b""
            if isinstance(content, Entry):
                member.type = _KINDS.get(content.type, tarfile.REGTYPE)
                member.mode, member.uid, member.gid = content.mode, content.uid, content.gid
                member.linkname = content.target
            else:
                data = content.encode() if isinstance(content, str) else content
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def scan_tar(data: bytes) -> LayerIndex:
    """Index a plain tar."""
    descriptor = Descriptor(media_type=OCI_LAYER, digest=Digest.of(data), size=len(data))
    return scan_layer(io.BytesIO(data), descriptor, Digest.of(data))


def tree(*layers: Mapping[str, Content]) -> LayeredFilesystem:
    """Stack layers, the lowest first, as an image's filesystem in which every file can be read."""
    return stack(*(layer_tar(layer) for layer in layers))


class TarContents:
    """What the files of a plain tar have in them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def kept(self, row: Row) -> bytes | None:
        return None

    def load(self, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[bytes]]]:
        for path, row in rows.items():
            yield path, [self._data[row.offset : row.offset + row.size]]


def indexed(data: bytes) -> IndexedLayer:
    """A plain tar as a layer of a view."""
    return IndexedLayer(scan_tar(data), TarContents(data))


def stack(*tars: bytes) -> LayeredFilesystem:
    """Stack plain tars, the lowest first."""
    return LayeredFilesystem([indexed(data) for data in tars])


def layer_files(layout: Path, tag: str) -> dict[str, bytes]:
    """Return the files that the top layer of a tag brings, by path."""
    layer = assert_valid_image(layout, tag)["layers"][-1]
    with tarfile.open(fileobj=io.BytesIO(decompress(read_blob(layout, layer), limit=1 << 32))) as tar:
        opened = {member.name: tar.extractfile(member) for member in tar if member.isreg()}
        return {path: file.read() for path, file in opened.items() if file is not None}


def layer_paths(layout: Path, tag: str) -> set[str]:
    """Return what the top layer of a tag changes: every path but directories, and what is removed."""
    layer = assert_valid_image(layout, tag)["layers"][-1]
    index = scan_tar(decompress(read_blob(layout, layer), limit=1 << 32))
    return {unpack_text(row.path) for row in index.rows if row.type != "5"} | {path for path, _, _ in index.whiteouts}


def differences_of_layers(layout: Path, one: str, other: str) -> list[str]:
    """Say in what the top layers of two tags differ, down to the bytes that compression gave; nothing where they don't."""
    blobs = [read_blob(layout, assert_valid_image(layout, tag)["layers"][-1]) for tag in (one, other)]
    if blobs[0] == blobs[1]:
        return []
    plain = [decompress(blob, limit=1 << 32) for blob in blobs]
    rows = [_rows(data) for data in plain]
    found = [
        f"{path}: {rows[0].get(path, 'missing')} in {one}, {rows[1].get(path, 'missing')} in {other}"
        for path in sorted(rows[0].keys() | rows[1].keys())
        if rows[0].get(path) != rows[1].get(path)
    ]
    return found or ["the plain tars" if plain[0] != plain[1] else "the compressed bytes alone"]


def _rows(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: f"{member.get_info()} {_hash_of(tar, member)}" for member in tar}


def _hash_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member) if member.isreg() else None
    return hashlib.sha256(content.read()).hexdigest() if content is not None else ""
