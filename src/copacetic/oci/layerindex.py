# SPDX-License-Identifier: Apache-2.0
"""
One layer, streamed once: what is in it, without unpacking anything.

Of every file the SHA-256 is taken; the bytes of those that a `PathSelector` names are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from copacetic.errors import HostileLayerError
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layerstream import LayerBudget, stream_layer
from copacetic.oci.tarstream import TarEntry, TarReader
from copacetic.oci.transport import ByteStream

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_EMPTY = hashlib.sha256().digest()
_KEPT_FLOOR = 64 * 1024 * 1024
_KEPT_RATIO = 8


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
        "lib/apk/",
        "usr/lib/apk/",
        "usr/local/share/ca-certificates/",
        "usr/share/ca-certificates/",
        "usr/share/keyrings/",
        "usr/share/python3/",
        "var/cache/debconf/",
        "var/lib/chisel/",
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
    """A layer's entries in the order of its tar, what it hides of those below, and the bytes of what was kept."""

    diff_id: str
    rows: list[Row]
    whiteouts: list[tuple[str, int, bool]]
    """What is hidden, where in the tar that stands, and whether it is a folder's content that is."""
    contents: dict[str, bytes]
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
    keep: PathSelector = KEEP,
    budget: LayerBudget | None = None,
    advance: Callable[[int], None] | None = None,
    on_file: Callable[[str], Any] | None = None,
) -> LayerIndex:
    """
    Index a layer in one pass. `on_file` may return, for a path, one more `hashlib` object to feed its content to.

    Raises as `stream_layer` does.
    """
    rows: dict[str, Row] = {}
    whiteouts: list[tuple[str, int, bool]] = []
    contents: dict[str, bytes] = {}
    result: list[Any] = []
    room = min(keep.total_limit, max(_KEPT_FLOOR, _KEPT_RATIO * descriptor.size))
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
        selected = entry.type == "0" and entry.size <= min(keep.file_limit, room) and keep.selects(entry.path)
        if selected:
            room -= entry.size  # what exceeds it is read from the layer when it is asked for
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
        contents={path: data for path, data in contents.items() if _encodable(path)},
        size=result[1],
        metadata=result[2],
    )


def _consume(
    entry: TarEntry, reader: TarReader, selected: bool, on_file: Callable[[str], Any] | None
) -> tuple[bytes, bytes | None]:
    if entry.type != "0":
        return b"", None
    more = on_file(entry.path) if on_file is not None else None
    if not entry.size:
        return _EMPTY, b"" if selected else None
    hasher = hashlib.sha256()
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
