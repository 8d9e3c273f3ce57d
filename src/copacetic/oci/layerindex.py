# SPDX-License-Identifier: Apache-2.0
"""
One layer, streamed once: what is in it, without unpacking anything.

Of every file the SHA-256 is taken, and what `KeepRules` select is handed on as it passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from copacetic.errors import HostileLayerError
from copacetic.keep import KeepRules
from copacetic.oci.contentpack import ContentSink
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layerstream import LayerBudget, stream_layer
from copacetic.oci.tarstream import TarEntry, TarReader
from copacetic.oci.transport import ByteStream

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_EMPTY = hashlib.sha256().digest()
_KEPT_TOTAL = 256 * 1024**2
_KEPT_FLOOR = 64 * 1024**2
_KEPT_RATIO = 8
"""For each stored byte of the layer, up to the total, and beyond what any layer may have."""


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
    """A layer's entries in the order of its tar, and what it hides of those below."""

    diff_id: str
    rows: list[Row]
    whiteouts: list[tuple[str, int, bool]]
    """What is hidden, where in the tar that stands, and whether it is a folder's content that is."""
    size: int
    """Of the plain tar."""
    metadata: int = 0
    """In the measure of `TarLimits.metadata`."""


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


def scan_layer(
    stream: ByteStream,
    descriptor: Descriptor,
    diff_id: Digest | None,
    *,
    keep: Sequence[tuple[KeepRules, ContentSink]] = (),
    kept: int = 0,
    budget: LayerBudget | None = None,
    advance: Callable[[int], None] | None = None,
    on_file: Callable[[str], Any] | None = None,
) -> LayerIndex:
    """
    Index a layer in one pass. What rules select goes to their sinks, as long as there is room: `kept` bytes of this
    layer's are kept already. `on_file` may return, for a path, one more `hashlib` object to feed its content to.

    Raises as `stream_layer` does.
    """
    rows: dict[str, Row] = {}
    whiteouts: list[tuple[str, int, bool]] = []
    result: list[Any] = []
    room = min(_KEPT_TOTAL, max(_KEPT_FLOOR, _KEPT_RATIO * descriptor.size)) - kept
    stepping = stream_layer(
        stream, descriptor, diff_id, budget=budget, advance=advance, finish=lambda *values: result.extend(values)
    )
    for entry, reader in stepping:
        folder, _, name = entry.path.rpartition("/")
        if name.startswith(_WHITEOUT):
            if name == _OPAQUE:
                whiteouts.append((pack_text(folder), entry.offset, True))
            elif not name.startswith(_WHITEOUT * 2):
                hidden = name[len(_WHITEOUT) :]
                if hidden in {"", ".", ".."}:
                    raise HostileLayerError(f"the layer {descriptor.digest} has a whiteout of no name: {name!r}")
                whiteouts.append((pack_text(f"{folder}/{hidden}" if folder else hidden), entry.offset, False))
            continue
        sinks: list[ContentSink] = []
        if entry.type == "0":
            for rules, sink in keep:
                if entry.size <= room and rules.select(entry.path, entry.size):
                    room -= entry.size  # what exceeds it is read from the layer when it is asked for
                    sinks.append(sink)
        rows.pop(entry.path, None)  # the last entry of a name counts, and comes at its own place
        rows[entry.path] = _row(entry, _consume(entry, reader, sinks, on_file))
    return LayerIndex(
        diff_id=result[0],
        rows=list(rows.values()),
        whiteouts=whiteouts,
        size=result[1],
        metadata=result[2],
    )


def _consume(
    entry: TarEntry, reader: TarReader, sinks: Sequence[ContentSink], on_file: Callable[[str], Any] | None
) -> bytes:
    if entry.type != "0":
        return b""
    more = on_file(entry.path) if on_file is not None else None
    if not entry.size:
        return _EMPTY
    hasher = hashlib.sha256()
    for piece in reader.content():
        hasher.update(piece)
        if more is not None:
            more.update(piece)
        for sink in sinks:
            sink.write(piece)
    digest = hasher.digest()
    for sink in sinks:
        sink.end(digest)
    return digest


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
