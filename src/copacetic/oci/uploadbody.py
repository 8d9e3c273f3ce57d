# SPDX-License-Identifier: Apache-2.0
"""What an upload sends: bytes that can be read again, from a file or from another image's blob."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from copacetic.errors import IntegrityError, StorageError
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.transport import ByteStream, Source

PIECE = 1 << 20


class Body(Protocol):
    """Bytes that can be sent again."""

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes between two positions."""
        ...


class DataBody(Struct, frozen=True):
    """Bytes that are here already."""

    data: bytes

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        yield self.data[start:stop]


class FileBody(Struct, frozen=True):
    """A local file."""

    path: Path

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                while start < stop:
                    piece = file.read(min(PIECE, stop - start))
                    if not piece:
                        raise IntegrityError(f"{self.path}: ends after {start} of {stop} bytes")
                    start += len(piece)
                    yield piece
        except OSError as error:
            raise StorageError(f"{self.path}: {(error.strerror or str(error)).lower()}") from error


class SourceBody:
    """A blob of a source, streamed; checked whenever its end is reached. Going back means reading it again."""

    def __init__(self, source: Source, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor
        self._open = ExitStack()
        self._stream: ByteStream | None = None
        self._hasher = descriptor.digest.hasher()
        self._at = 0

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        if self._stream is None or start < self._at:
            self.close()
            self._stream = self._open.enter_context(self._source.open_blob(self._descriptor))
            self._hasher = self._descriptor.digest.hasher()
            self._at = 0
        while self._at < start:
            self._read(min(PIECE, start - self._at))
        while self._at < stop:
            yield self._read(min(PIECE, stop - self._at))

    def close(self) -> None:
        self._open.close()
        self._stream = None

    def _read(self, size: int) -> bytes:
        assert self._stream is not None
        piece = self._stream.read(size)
        where = f"{self._source.name}: {self._descriptor.digest}"
        if not piece:
            raise IntegrityError(f"{where} ends after {self._at} of {self._descriptor.size} bytes")
        self._hasher.update(piece)
        self._at += len(piece)
        if self._at == self._descriptor.size and self._hasher.hexdigest() != self._descriptor.digest.encoded:
            raise IntegrityError(f"{where} has another digest: {self._hasher.hexdigest()}")
        return piece
