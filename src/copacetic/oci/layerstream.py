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
from copacetic.oci.tarstream import HostileTarError, TarEntry, TarError, TarReader
from copacetic.oci.transport import ByteStream

__all__ = ["ContentPlace", "LayerBudget", "extract_files", "plain_layer", "stream_layer"]

MAX_LAYER_SIZE = 256 * 1024**3
_PLAIN, _PLAIN_RATIO = 1024**3, 100
"""
Plain bytes that the layers of any image may have, and for each stored byte, beyond which they are a bomb; honest
layers stay far below.
"""
_METADATA, _METADATA_BASE, _METADATA_RATIO = 60_000_000, 20_000_000, 6
"""
The same for `TarLimits.metadata`: a few kilobytes may not name millions of files, since each costs far more time and
memory than its bytes. Any image may have 100,000 files; honest ones have some hundred stored bytes for each.
"""
_SLOW = 8
"""How much longer xz and bzip2 take for a plain byte, which no specification of images has but docker unpacks."""
_TOLERANCE = 5, 4
"""While layers are read at once, small ones may be ahead of the big ones that they belong to."""
_CHUNK = 1 << 20


class ContentPlace(Protocol):
    """Where a file's content stands in a layer; an index's row."""

    @property
    def size(self) -> int: ...

    @property
    def offset(self) -> int: ...


class LayerBudget:
    """
    What reading the layers of an image may come to, for as much as was read of them.

    Several threads may spend at once. What they spend bounds the work; the verdict is `check`'s.
    """

    def __init__(self, *, known: int = 0) -> None:
        """`known` are stored bytes of the same image that were read before."""
        self._stored = self._plain = self._metadata = 0
        self.receive(known)

    @staticmethod
    def check(*, stored: int, plain: int, metadata: int) -> None:
        """Raise `HostileLayerError` when layers of that many stored bytes have more in them than they may."""
        if plain > _plain_limit(stored) or metadata > _metadata_limit(stored):
            what = f"{plain} bytes, and {metadata} in names and headers"
            raise HostileLayerError(f"the image's layers hold too much for their {stored} bytes: {what}")

    def receive(self, stored: int) -> None:
        up, down = _TOLERANCE
        self._stored += stored
        self._most_plain = _plain_limit(self._stored) * up // down
        self._most_metadata = _metadata_limit(self._stored) * up // down

    def unpack(self, plain: int) -> None:
        self._plain += plain
        if self._plain > self._most_plain:
            raise DecompressionLimitError(f"more than {self._most_plain} bytes")

    def spend(self, amount: int) -> None:
        self._metadata += amount
        if self._metadata > self._most_metadata:
            raise HostileTarError("too many entries, names and headers for its size")


def _plain_limit(stored: int) -> int:
    return min(MAX_LAYER_SIZE, max(_PLAIN, stored * _PLAIN_RATIO))


def _metadata_limit(stored: int) -> int:
    return max(_METADATA, _METADATA_BASE + stored * _METADATA_RATIO)


class _Pump:
    """
    Fetches and decompresses in a thread of its own; `read` gives the plain bytes, and checks them as they pass.

    Each thread takes one of the two digests: that shares the work evenly.
    """

    def __init__(
        self, stream: ByteStream, descriptor: Descriptor, diff_id: Digest | None, budget: LayerBudget | None
    ) -> None:
        self._stream = stream
        self.budget = budget or LayerBudget()
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
            reader = DecompressedReader(_Counted(self), limit=MAX_LAYER_SIZE)
            while not self._stopped.is_set() and (part := reader.read(_CHUNK)):
                self.budget.unpack(len(part) * (_SLOW if reader.format in {"xz", "bzip2"} else 1))
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
        self.budget.receive(len(part))
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


class _LayerReader(TarReader):
    """A reader whose content fails with an error about the layer, wherever it is consumed."""

    def __init__(self, stream: _Pump, descriptor: Descriptor) -> None:
        super().__init__(stream, allowance=stream.budget)
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
    budget: LayerBudget | None = None,
    advance: Callable[[int], None] | None = None,
    finish: Callable[[str, int, int], None] | None = None,
) -> Iterator[tuple[TarEntry, TarReader]]:
    """
    Yield a layer's entries with the reader that gives their content; the last step checks all digests.

    `finish` gets the diff_id, the plain size and `TarReader.metadata`. `budget` is for all layers of
    an image together, for this one alone by default. Raises `IntegrityError` when the bytes are others than the
    descriptor's, `CorruptLayerError` or `HostileLayerError` for what they hold.
    """
    with _Pump(stream, descriptor, diff_id, budget) as pump:
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
            finish(pump.plain_digest, pump.size, reader.metadata)


def extract_files(
    stream: ByteStream,
    descriptor: Descriptor,
    diff_id: Digest | None,
    rows: Mapping[str, ContentPlace],
    *,
    budget: LayerBudget | None = None,
) -> Iterator[tuple[str, Iterable[memoryview]]]:
    """
    Yield the paths of these rows with their content, to be taken before the next is asked for.

    Raises as `stream_layer` does, and `CorruptLayerError` when one isn't there any more.
    """
    missing = dict(rows)
    for entry, reader in stream_layer(stream, descriptor, diff_id, budget=budget):
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
    budget: LayerBudget | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Yield a layer's plain tar in pieces; the last step checks all digests. Raises as `stream_layer` does."""
    with _Pump(stream, descriptor, diff_id, budget) as pump:
        if advance is not None:
            pump.advance = advance
        try:
            while part := pump.read(_CHUNK):
                yield part
        except DecompressionError as error:
            raise _translate(error, descriptor.digest) from error
