# SPDX-License-Identifier: Apache-2.0
"""
One layer, streamed once: what is in it, without unpacking anything.

The compressed bytes must have the layer's digest and size, the plain ones its diff_id. Of every file the SHA-256 is
taken; the bytes of those that a `PathSelector` names are kept.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from copacetic.compression import DecompressedReader, DecompressionError, DecompressionLimitError
from copacetic.errors import CorruptLayerError, HostileLayerError, IntegrityError
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.tarstream import HostileTarError, TarEntry, TarError, TarReader
from copacetic.oci.transport import ByteStream

MAX_LAYER_SIZE = 256 * 1024**3
MAX_RATIO = 1_000
"""Plain bytes for each compressed one, beyond which a layer is a bomb; honest layers stay below 100."""
RATIO_FLOOR = 1024**3
"""Plain bytes that any layer may have, whatever the ratio."""
_CHUNK = 1 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSelector:
    """Which files' bytes an index keeps: those below a prefix, and those named exactly."""

    prefixes: tuple[str, ...]
    names: frozenset[str]
    without: frozenset[str] = frozenset()
    file_limit: int = 16 * 1024 * 1024
    total_limit: int = 256 * 1024 * 1024

    def selects(self, path: str) -> bool:
        return (path in self.names or path.startswith(self.prefixes)) and path not in self.without

    @property
    def fingerprint(self) -> str:
        """Changes whenever the choice does."""
        text = repr((self.prefixes, sorted(self.names), sorted(self.without), self.file_limit, self.total_limit))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


KEEP = PathSelector(
    prefixes=(
        "etc/",
        "lib/apk/db/",
        "usr/lib/apk/db/",
        "usr/local/share/ca-certificates/",
        "usr/share/ca-certificates/",
        "usr/share/keyrings/",
        "usr/share/python3/",
        "var/cache/debconf/",
        "var/lib/dpkg/",
    ),
    names=frozenset(
        {
            # What maintainer scripts of whole families of packages include.
            "usr/lib/php/php-maintscript-helper",
            "usr/share/postgresql-common/maintscripts-functions",
            "usr/lib/os-release",
        }
    ),
    without=frozenset({"var/lib/dpkg/available", "var/lib/dpkg/available-old", "var/lib/dpkg/status-old"}),
)


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry, compact; texts went through `pack_text`."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: str
    """Of a symbolic or hard link."""
    device: tuple[int, int]
    xattrs: dict[str, bytes] | None
    sha256: bytes
    offset: int


class LayerIndex(msgspec.Struct, frozen=True, array_like=True):
    """A layer's entries in the order of its tar, what it deletes, and the bytes of the files that were kept."""

    diff_id: str
    rows: list[Row]
    whiteouts: list[str]
    opaques: list[str]
    contents: dict[str, bytes]
    size: int
    """Of the plain tar."""


def pack_text(text: str) -> str:
    """Make text with surrogate escapes fit for storage: a NUL, which no path has, and then its bytes as Latin-1."""
    if text.isascii() or _encodable(text):
        return text
    return "\0" + text.encode("utf-8", "surrogateescape").decode("latin-1")


def unpack_text(stored: str) -> str:
    """Undo `pack_text`."""
    if not stored.startswith("\0"):
        return stored
    return stored[1:].encode("latin-1").decode("utf-8", "surrogateescape")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Pump:
    """Fetches, hashes and decompresses in a thread of its own; `read` gives the plain bytes."""

    def __init__(self, stream: ByteStream, descriptor: Descriptor, diff_id: Digest | None) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._compressed = descriptor.digest.hasher()
        self._plain = diff_id.hasher() if diff_id else hashlib.sha256()
        self._diff_id = diff_id
        self._received = 0
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
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item or b""

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            limit = min(MAX_LAYER_SIZE, max(RATIO_FLOOR, self._descriptor.size * MAX_RATIO))
            reader = DecompressedReader(_Counted(self), limit=limit)
            while not self._stopped.is_set() and (part := reader.read(_CHUNK)):
                self._plain.update(part)
                self.size += len(part)
                self._queue.put(part)
            if not self._stopped.is_set():
                self._check()
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

    def _check(self) -> None:
        digest = self._descriptor.digest
        while self.fetch(_CHUNK):
            pass
        if self._received != self._descriptor.size:
            raise IntegrityError(f"the layer {digest} has {self._received} bytes instead of {self._descriptor.size}")
        if self._compressed.hexdigest() != digest.encoded:
            raise IntegrityError(f"the layer {digest} has another content: sha256:{self._compressed.hexdigest()}")
        if self._diff_id is not None and self._plain.hexdigest() != self._diff_id.encoded:
            raise CorruptLayerError(f"the layer {digest} is not the {self._diff_id} that the config promises")

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

    def __init__(self, stream: _Pump, digest: Digest) -> None:
        super().__init__(stream)
        self._digest = digest

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
        reader = _LayerReader(pump, descriptor.digest)
        try:
            for entry in reader:
                yield entry, reader
            reader.drain()
        except (TarError, DecompressionError) as error:
            raise _translate(error, descriptor.digest) from error
        if finish is not None:
            finish(pump.plain_digest, pump.size)


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


def scan_layer(
    stream: ByteStream,
    descriptor: Descriptor,
    diff_id: Digest | None,
    *,
    keep: PathSelector = KEEP,
    advance: Callable[[int], None] | None = None,
    on_file: Callable[[str], Any] | None = None,
) -> LayerIndex:
    """
    Index a layer in one pass. `on_file` may return, for a path, one more `hashlib` object to feed its content to.

    Raises as `stream_layer` does.
    """
    rows: dict[str, Row] = {}
    whiteouts: list[str] = []
    opaques: list[str] = []
    contents: dict[str, bytes] = {}
    result: list[Any] = []
    budget = keep.total_limit
    for entry, reader in stream_layer(stream, descriptor, diff_id, advance=advance, finish=lambda *a: result.extend(a)):
        folder, _, name = entry.path.rpartition("/")
        if name.startswith(_WHITEOUT):
            if name == _OPAQUE:
                opaques.append(pack_text(folder))
            elif not name.startswith(_WHITEOUT * 2):
                hidden = name[len(_WHITEOUT) :]
                whiteouts.append(pack_text(f"{folder}/{hidden}" if folder else hidden))
            continue
        selected = entry.type == "0" and entry.size <= min(keep.file_limit, budget) and keep.selects(entry.path)
        if selected:
            budget -= entry.size  # what exceeds it is read from the layer when it is asked for
        digest, data = _consume(entry, reader, selected, on_file)
        rows.pop(entry.path, None)  # the last entry of a name counts, and comes at its own place
        contents.pop(entry.path, None)
        rows[entry.path] = _row(entry, digest)
        if data is not None:
            contents[entry.path] = data
    return LayerIndex(
        diff_id=result[0],
        rows=list(rows.values()),
        whiteouts=whiteouts,
        opaques=opaques,
        contents={path: data for path, data in contents.items() if _encodable(path)},
        size=result[1],
    )


def _consume(
    entry: TarEntry, reader: TarReader, selected: bool, on_file: Callable[[str], Any] | None
) -> tuple[bytes, bytes | None]:
    if entry.type != "0":
        return b"", None
    hasher = hashlib.sha256()
    more = on_file(entry.path) if on_file is not None else None
    parts: list[bytes] = []
    for piece in reader.content():
        hasher.update(piece)
        if more is not None:
            more.update(piece)
        if selected:
            parts.append(bytes(piece))
    return hasher.digest(), b"".join(parts) if selected else None


def _row(entry: TarEntry, digest: bytes) -> Row:
    return Row(
        path=pack_text(entry.path),
        type=entry.type,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        mtime=entry.mtime,
        target=pack_text(entry.linkname),
        device=entry.device,
        xattrs={k: v for k, v in sorted(entry.xattrs.items()) if _encodable(k)} or None,
        sha256=digest,
        offset=entry.offset,
    )
