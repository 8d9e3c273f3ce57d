# SPDX-License-Identifier: Apache-2.0
"""
The floor of a run with an empty cache: inflating, hashing and deflating that nothing can do without, by the libraries
that copa uses, with no Python around them.

    python -m bench.floor LAYOUT CACHE        seconds of processor time; CACHE is what such a run has left
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from isal import isal_zlib

from copacetic.inventory.dpkg.archive import DebArchive

_PIECE = 1 << 20


class Floor:
    """Adds up the processor time of what is measured; everything else is preparation."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def measure(self, work: Callable[[], object]) -> None:
        started = time.process_time()
        work()
        self.seconds += time.process_time() - started

    def hash(self, texts: Iterable[bytes | memoryview], algorithm: str = "sha256") -> None:
        ready = list(texts)
        make = getattr(hashlib, algorithm)
        self.measure(lambda: [make(text, usedforsecurity=False).digest() for text in ready])

    def layer(self, stored: bytes) -> bytes:
        """A layer is inflated, and hashed as it is stored, as a tar, and file by file."""
        self.measure(lambda: _inflate(stored))
        plain = b"".join(_inflate(stored))
        self.hash([stored, plain, *_files(plain)])
        return plain

    def index(self, plain: bytes) -> None:
        """An index is inflated and hashed, as it comes and as it is kept."""
        stored = isal_zlib.compress(plain, 3, 31)
        self.measure(lambda: _inflate(stored))
        self.hash([stored, plain])

    def package(self, path: Path) -> None:
        """A package is hashed, unpacked, and its files are hashed for the layer and for the package's database."""
        archive, stored = DebArchive.open(path), path.read_bytes()
        self.hash([stored])
        for part in (archive.control, archive.data):
            packed = stored[part.offset : part.offset + part.size]
            self.measure(lambda packed=packed: lzma.decompress(packed))  # type: ignore[misc]
        files = list(_files(lzma.decompress(packed)))
        self.hash(files)
        self.hash(files, "md5")

    def new_layer(self, stored: bytes) -> None:
        """The new layer is deflated, hashed as a tar and as it is stored, and read back."""
        plain = self.layer(stored)
        self.measure(lambda: _deflate(plain))
        self.hash([stored, plain])
        self.hash(_files(plain), "md5")


def _inflate(stored: bytes) -> list[bytes]:
    decoder = isal_zlib.decompressobj(31)
    parts = []
    at = 0
    while not decoder.eof:
        piece = decoder.unconsumed_tail
        if not piece:
            piece, at = stored[at : at + _PIECE // 4], at + _PIECE // 4
        parts.append(decoder.decompress(piece, _PIECE))
    return parts


def _deflate(plain: bytes) -> int:
    crc = 0
    for at in range(0, len(plain), _PIECE):
        piece = plain[at : at + _PIECE]
        crc = isal_zlib.crc32(piece, crc)
        stream = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
        stream.compress(piece)
        stream.flush(isal_zlib.Z_FULL_FLUSH)
    return crc


def _files(plain: bytes) -> Iterator[memoryview]:
    view = memoryview(plain)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for member in tar:
            if member.isreg():
                yield view[member.offset_data : member.offset_data + member.size]


def floor(layout: Path, cache: Path) -> float:
    """Return the seconds for one image of a layout, patched with that cache."""
    total = Floor()
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / entry["digest"].partition(":")[2]).read_bytes())
    for layer in manifest["layers"]:
        total.layer((blobs / layer["digest"].partition(":")[2]).read_bytes())
    for bucket, work in (
        ("packages-indexes", lambda path: total.index(path.read_bytes())),
        ("packages", total.package),
        ("patch-layers", lambda path: total.new_layer(path.read_bytes())),
    ):
        found = [path for path in cache.glob(f"{bucket}.v*/*") if path.is_file() and path.name[0] != "."]
        if not found:
            raise SystemExit(f"{cache} has no {bucket}: is there nothing to update, or was it not the one of a run?")
        for path in found:
            work(path)
    return total.seconds


if __name__ == "__main__":
    print(floor(Path(sys.argv[1]), Path(sys.argv[2])))
