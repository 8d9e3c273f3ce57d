# SPDX-License-Identifier: Apache-2.0
"""
One layer as a stream: fetched and decompressed in one thread, consumed in another, and checked by both.

The compressed bytes must have the layer's digest and size, the plain ones its diff_id.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, Self

from copacetic.compression import DecompressedReader, DecompressionError, DecompressionLimitError
from copacetic.errors import CorruptLayerError, HostileLayerError, IntegrityError
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.tarstream import HostileTarError, TarEntry, TarError, TarLimits, TarReader
from copacetic.oci.transport import ByteStream

__all__ = ["Located", "extract_files", "plain_layer", "stream_layer"]

MAX_LAYER_SIZE = 256 * 1024**3
MAX_RATIO = 100
"""Plain bytes for each compressed one, beyond which a layer is a bomb; honest layers stay far below."""
RATIO_FLOOR = 1024**3
"""Plain bytes that any layer may have, whatever the ratio."""
_ENTRIES, _BYTES_PER_ENTRY = 100_000, 100
_METADATA, _METADATA_RATIO = 16 * 1024**2, 6
"""
What any layer may have, and how much more for its stored size: a few kilobytes may not name millions of files, since
each costs far more time and memory than its bytes. Honest layers have some hundred bytes for each entry.
"""
_CHUNK = 1 << 20


class Located(Protocol):
    """Where a file's content stands in a layer; an index's row."""

    @property
    def size(self) -> int: ...

    @property
    def offset(self) -> int: ...


class _Pump:
    """
    Fetches and decompresses in a thread of its own; `read` gives the plain bytes, and checks them as they pass.

    Each thread takes one of the two digests: that shares the work evenly.
    """

    def __init__(self, stream: ByteStream, descriptor: Descriptor, diff_id: Digest | None) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._compressed = descriptor.digest.hasher()
        self._plain = diff_id.hasher() if diff_id else hashlib.sha256()
        self._diff_id = diff_id
        self._received = 0
        self._ended = False
        self.size = 0
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=8)
        self._stopped = threading.Event()
        self.advance: Callable[[int], None] = lambda _amount: None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def read(self, _size: int, /) -> bytes:
        if self._ended:
            return b""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            self._ended = True
            self._check_plain()
            return b""
        self._plain.update(item)
        self.size += len(item)
        return item

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            limit = min(MAX_LAYER_SIZE, max(RATIO_FLOOR, self._descriptor.size * MAX_RATIO))
            reader = DecompressedReader(_Counted(self), limit=limit)
            while not self._stopped.is_set() and (part := reader.read(_CHUNK)):
                self._queue.put(part)
            if not self._stopped.is_set():
                self._check_compressed()
        except DecompressionLimitError as error:
            end = error
        except DecompressionError as error:
            end = self._blame(error)
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that reads
            end = error
        if not self._stopped.is_set():
            self._queue.put(end)

    def fetch(self, size: int) -> bytes:
        part = self._stream.read(size)
        self._received += len(part)
        if self._received > self._descriptor.size:
            raise IntegrityError(f"the layer {self._descriptor.digest} has more than its {self._descriptor.size} bytes")
        self._compressed.update(part)
        self.advance(len(part))
        return part

    def _blame(self, error: DecompressionError) -> Exception:
        """A broken stream is the sender's fault when its bytes are not the promised ones."""
        try:
            while self.fetch(_CHUNK):
                pass
        except Exception as other:  # noqa: BLE001 - handed over, too
            return other
        digest = self._descriptor.digest
        if self._compressed.hexdigest() == digest.encoded:
            return error
        return IntegrityError(f"the layer {digest} has another content: sha256:{self._compressed.hexdigest()}")

    def _check_compressed(self) -> None:
        digest = self._descriptor.digest
        while self.fetch(_CHUNK):
            pass
        if self._received != self._descriptor.size:
            raise IntegrityError(f"the layer {digest} has {self._received} bytes instead of {self._descriptor.size}")
        if self._compressed.hexdigest() != digest.encoded:
            raise IntegrityError(f"the layer {digest} has another content: sha256:{self._compressed.hexdigest()}")

    def _check_plain(self) -> None:
        if self._diff_id is not None and self._plain.hexdigest() != self._diff_id.encoded:
            message = f"the layer {self._descriptor.digest} is not the {self._diff_id} that the config promises"
            raise CorruptLayerError(message)

    @property
    def plain_digest(self) -> str:
        return f"sha256:{self._plain.hexdigest()}" if self._diff_id is None else str(self._diff_id)


class _Counted:
    def __init__(self, pump: _Pump) -> None:
        self.read = pump.fetch


def _translate(error: ValueError, digest: Digest) -> CorruptLayerError | HostileLayerError:
    kind = HostileLayerError if isinstance(error, HostileTarError | DecompressionLimitError) else CorruptLayerError
    return kind(f"the layer {digest} is unusable: {error}")


def _limits(size: int) -> TarLimits:
    most = TarLimits()
    return TarLimits(
        entries=min(most.entries, _ENTRIES + size // _BYTES_PER_ENTRY),
        metadata=min(most.metadata, _METADATA + size * _METADATA_RATIO),
    )


class _LayerReader(TarReader):
    """A reader whose content fails with an error about the layer, wherever it is consumed."""

    def __init__(self, stream: _Pump, descriptor: Descriptor) -> None:
        super().__init__(stream, limits=_limits(descriptor.size))
        self._digest = descriptor.digest

    def content(self) -> Iterator[memoryview]:
        try:
            yield from super().content()
        except (TarError, DecompressionError) as error:
            raise _translate(error, self._digest) from error


def stream_layer(
    stream: ByteStream,
    descriptor: Descriptor,
    diff_id: Digest | None,
    *,
    advance: Callable[[int], None] | None = None,
    finish: Callable[[str, int], None] | None = None,
) -> Iterator[tuple[TarEntry, TarReader]]:
    """
    Yield a layer's entries with the reader that gives their content; the last step checks all digests.

    `finish` gets the diff_id and the plain size. Raises `IntegrityError` when the bytes are others than the
    descriptor's, `CorruptLayerError` or `HostileLayerError` for what they hold.
    """
    with _Pump(stream, descriptor, diff_id) as pump:
        if advance is not None:
            pump.advance = advance
        reader = _LayerReader(pump, descriptor)
        try:
            for entry in reader:
                yield entry, reader
            reader.drain()
        except (TarError, DecompressionError) as error:
            raise _translate(error, descriptor.digest) from error
        if finish is not None:
            finish(pump.plain_digest, pump.size)


def extract_files(
    stream: ByteStream, descriptor: Descriptor, diff_id: Digest | None, rows: Mapping[str, Located]
) -> Iterator[tuple[str, Iterable[memoryview]]]:
    """
    Yield the paths of these rows with their content, to be taken before the next is asked for.

    Raises as `stream_layer` does, and `CorruptLayerError` when one isn't there any more.
    """
    missing = dict(rows)
    for entry, reader in stream_layer(stream, descriptor, diff_id):
        row = missing.get(entry.path)
        if row is not None and entry.offset == row.offset and entry.size == row.size:
            del missing[entry.path]
            yield entry.path, reader.content()
    if missing:
        raise CorruptLayerError(f"the layer {descriptor.digest} has no {min(missing)[:200]!r} any more")


def plain_layer(
    stream: ByteStream,
    descriptor: Descriptor,
    diff_id: Digest | None,
    *,
    advance: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Yield a layer's plain tar in pieces; the last step checks all digests. Raises as `stream_layer` does."""
    with _Pump(stream, descriptor, diff_id) as pump:
        if advance is not None:
            pump.advance = advance
        try:
            while part := pump.read(_CHUNK):
                yield part
        except DecompressionError as error:
            raise _translate(error, descriptor.digest) from error
