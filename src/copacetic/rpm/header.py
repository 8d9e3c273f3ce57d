# SPDX-License-Identifier: Apache-2.0
"""
Headers: what rpm knows about a package, in its files and in its database.

    u32 entries, u32 bytes of data       big-endian, as all numbers
    (tag, type, offset, count) of each
    data                                 each value where its entry says, aligned for its type

The first entry may be a region: its value, 16 bytes, says how many entries belong to it, and ends its data. Those are
what the packager signed. What was added when the package was installed follows, and counts instead of what the region
says under the same tag.

What rpm's own reader refuses is refused here: values that overlap, have no end, or lie outside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from copacetic.rpm import tags

__all__ = [
    "BINARY",
    "CHAR",
    "HEADER_MAGIC",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "STRING",
    "STRINGS",
    "TRANSLATED",
    "HeaderError",
    "RpmEntry",
    "RpmHeader",
    "binary_entry",
    "number_entry",
    "text_entry",
    "texts_entry",
]

CHAR, INT8, INT16, INT32, INT64, STRING, BINARY, STRINGS, TRANSLATED = range(1, 10)
HEADER_MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
"""What stands before a header in a package file, and not in a database."""
MAX_ENTRIES = 0xFFFF
MAX_DATA = 0x0FFF_FFFF
MAX_TAG = 2**31 - 1
MAX_VALUES = 1_000_000
"""Of one entry: each costs many times its bytes."""
_WIDTH = {CHAR: 1, INT8: 1, INT16: 2, INT32: 4, INT64: 8}
_FORMAT = {CHAR: "B", INT8: "B", INT16: "H", INT32: "I", INT64: "Q"}
_REGIONS = frozenset({tags.HEADER_IMAGE, tags.HEADER_SIGNATURES, tags.HEADER_IMMUTABLE})
_REGION_SIZE = 16
_ROW = struct.Struct(">IIiI")
_TEXT_TYPES = frozenset({STRING, STRINGS, TRANSLATED})


class HeaderError(ValueError):
    """Bytes that are no header, in words without what they are of."""


class RpmEntry(Struct, frozen=True):
    """One value."""

    tag: int
    type: int
    count: int
    raw: bytes
    """As it stands in the data."""

    @property
    def alignment(self) -> int:
        return _WIDTH.get(self.type, 1)


def number_entry(tag: int, values: Sequence[int], kind: int = INT32) -> RpmEntry:
    """Return a value of numbers; characters are numbers, too."""
    return RpmEntry(tag, kind, len(values), struct.pack(f">{len(values)}{_FORMAT[kind]}", *values))


def text_entry(tag: int, text: str) -> RpmEntry:
    return RpmEntry(tag, STRING, 1, _terminated(text))


def texts_entry(tag: int, texts: Sequence[str], kind: int = STRINGS) -> RpmEntry:
    return RpmEntry(tag, kind, len(texts), b"".join(map(_terminated, texts)))


def binary_entry(tag: int, data: bytes) -> RpmEntry:
    return RpmEntry(tag, BINARY, len(data), data)


def _terminated(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


class _Slot(Struct, frozen=True):
    """Where a value is in the data; of texts `end` is where they end at the latest."""

    type: int
    start: int
    end: int
    count: int


class RpmHeader:
    """
    One header, checked once and read when it is asked for. Tags of `copacetic.rpm.tags` have the kind of value that
    stands there, or else the header is refused: asking for them never fails.
    """

    __slots__ = ("_region_data", "_region_entries", "_slots", "_start", "blob", "region")

    def __init__(self, blob: bytes, *, is_signature: bool = False) -> None:
        """Raises `HeaderError`; nothing may follow the header. A package file's signature header has own tags."""
        count, size = _sizes(blob, 0)
        self.blob = blob
        """As a database has it: without the magic number."""
        self._start = 8 + 16 * count
        if len(blob) != self._start + size:
            raise HeaderError(f"it says that it has {self._start + size} bytes, and has {len(blob)}")
        self.region = 0
        """The tag of the region; 0 for none, as very old packages and keys have it."""
        self._region_entries = self._region_data = 0
        self._slots: dict[int, _Slot] = {}
        rows = list(_ROW.iter_unpack(blob[8 : self._start]))
        if rows and rows[0][0] in _REGIONS:
            self._read_region(rows.pop(0), count, size)
        self._read_slots(rows, size, is_own=_is_of_signature if is_signature else _is_of_kind)

    @classmethod
    def read(cls, data: bytes, start: int = 0, *, is_signature: bool = False) -> tuple[RpmHeader, int]:
        """Read one from a package file, with its magic number; also return where it ends. Raises `HeaderError`."""
        if data[start : start + 8] != HEADER_MAGIC:
            raise HeaderError("it doesn't begin as a header does")
        count, size = _sizes(data, start + 8)
        end = start + 16 + 16 * count + size
        if end > len(data):
            raise HeaderError("it is truncated")
        return cls(data[start + 8 : end], is_signature=is_signature), end

    @classmethod
    def build(cls, entries: Iterable[RpmEntry], region: int = tags.HEADER_IMMUTABLE) -> RpmHeader:
        """Make one of values, as rpmbuild does: sorted by their tags, and all in the region, if there is any."""
        ordered = sorted(entries, key=lambda entry: entry.tag)
        count = len(ordered) + bool(region)
        index, data = _laid_out(ordered, bytearray())
        if region:
            index = _ROW.pack(region, BINARY, len(data), _REGION_SIZE) + index
            data += _ROW.pack(region, BINARY, -16 * count, _REGION_SIZE)
        blob = struct.pack(">II", count, len(data)) + index + data
        return cls(blob, is_signature=region == tags.HEADER_SIGNATURES)

    def with_entries(self, entries: Iterable[RpmEntry]) -> RpmHeader:
        """Return the header with values added behind what it has, which stays byte for byte; sorted by their tags."""
        ordered = sorted(entries, key=lambda entry: entry.tag)
        index, data = _laid_out(ordered, bytearray(self.blob[self._start :]))
        count = (self._start - 8) // 16 + len(ordered)
        return RpmHeader(struct.pack(">II", count, len(data)) + self.blob[8 : self._start] + index + data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RpmHeader) and self.blob == other.blob

    def __hash__(self) -> int:
        return hash(self.blob)

    def __contains__(self, tag: int) -> bool:
        return tag in self._slots

    def __repr__(self) -> str:
        return f"RpmHeader({self.text(tags.NAME)} {self.text(tags.VERSION)})"

    @property
    def is_immutable(self) -> bool:
        """Whether all of it belongs to the region: nothing was added, as in a package file."""
        return bool(self.region) and self._region_entries * 16 + 8 == self._start and self._added == 0

    @property
    def signed_bytes(self) -> bytes:
        """What header signatures and digests are of; also in an installed header. Empty without a region."""
        if not self.region:
            return b""
        index = self.blob[8 : 8 + 16 * self._region_entries]
        data = self.blob[self._start : self._start + self._region_data]
        return HEADER_MAGIC + struct.pack(">II", self._region_entries, self._region_data) + index + data

    @property
    def _added(self) -> int:
        """Bytes of data behind the region's."""
        return len(self.blob) - self._start - self._region_data

    def count(self, tag: int) -> int:
        """Return how many values a tag has; 0 when it is absent."""
        slot = self._slots.get(tag)
        return 0 if slot is None else slot.count

    def entries(self) -> Iterator[RpmEntry]:
        """Yield each tag's value, in the order of the header; the one in effect where there are two."""
        for tag in self._slots:
            found = self.entry(tag)
            if found is not None:
                yield found

    def entry(self, tag: int) -> RpmEntry | None:
        """Return a value of any kind."""
        slot = self._slots.get(tag)
        if slot is None:
            return None
        raw = self.blob[slot.start : slot.end]
        if slot.type in _TEXT_TYPES:
            parts = raw.split(b"\0", slot.count)
            raw = b"\0".join(parts[:-1]) + b"\0"
        return RpmEntry(tag, slot.type, slot.count, raw)

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return a list of texts; of a translated one it is every language's. Empty when it is absent."""
        return tuple(part.decode("utf-8", "surrogateescape") for part in self.raw_texts(tag))

    def raw_texts(self, tag: int) -> list[bytes]:
        """Return a list of texts, as their bytes."""
        slot = self._slots.get(tag)
        if slot is None or slot.type not in _TEXT_TYPES:
            return []
        return self.blob[slot.start : slot.end].split(b"\0", slot.count)[: slot.count]

    def text(self, tag: int, default: str = "") -> str:
        """Return a text, or the first of several."""
        slot = self._slots.get(tag)
        if slot is None or slot.type not in _TEXT_TYPES:
            return default
        return self.blob[slot.start : self.blob.index(b"\0", slot.start)].decode("utf-8", "surrogateescape")

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return numbers, unsigned; empty when they are absent."""
        slot = self._slots.get(tag)
        if slot is None or slot.type not in _FORMAT:
            return ()
        return struct.unpack_from(f">{slot.count}{_FORMAT[slot.type]}", self.blob, slot.start)

    def number(self, tag: int) -> int | None:
        """Return the only number, or the first; None when it is absent."""
        slot = self._slots.get(tag)
        if slot is None or slot.type not in _FORMAT:
            return None
        value: int = struct.unpack_from(f">{_FORMAT[slot.type]}", self.blob, slot.start)[0]
        return value

    def binary(self, tag: int) -> bytes:
        """Return bytes; empty when they are absent."""
        slot = self._slots.get(tag)
        return b"" if slot is None or slot.type != BINARY else self.blob[slot.start : slot.end]

    def _read_region(self, row: tuple[int, int, int, int], count: int, size: int) -> None:
        tag, kind, offset, length = row
        if kind != BINARY or length != _REGION_SIZE or not 0 <= offset <= size - _REGION_SIZE:
            raise HeaderError("its region has no place")
        closing, kind, negative, length = _ROW.unpack_from(self.blob, self._start + offset)
        if closing == tags.HEADER_IMAGE and tag == tags.HEADER_SIGNATURES:
            closing = tag  # as an old rpm signed
        entries, odd = divmod(-negative, 16)
        if (closing, kind, length) != (tag, BINARY, _REGION_SIZE) or odd or not 1 <= entries <= count:
            raise HeaderError("its region doesn't end as it begins")
        self.region, self._region_entries, self._region_data = tag, entries, offset + _REGION_SIZE

    def _read_slots(
        self, rows: Sequence[tuple[int, int, int, int]], size: int, is_own: Callable[[int, int], bool]
    ) -> None:
        """Values follow each other in the order of their entries, as rpm demands it, too: each is read once."""
        own: set[int] = set()
        added: set[int] = set()
        last_of_region = self._region_entries - 2 if self.region else -1
        for number, (tag, kind, offset, count) in enumerate(rows):
            # Where the next value begins, or the end of the region, or of all.
            limit = rows[number + 1][2] if number + 1 < len(rows) else size
            if self.region and number <= last_of_region:
                closing = self._region_data - _REGION_SIZE
                limit = closing if number == last_of_region else min(limit, closing)
            first = self._region_data if self.region and number > last_of_region else 0
            if not first <= offset <= limit <= size:
                raise HeaderError(f"the value of tag {tag} has no place of its own")
            if not is_own(tag, kind):
                raise HeaderError(f"tag {tag} has a value of type {kind}")
            seen = own if self.region and number <= last_of_region else added
            if tag in seen:
                raise HeaderError(f"tag {tag} stands there twice")  # and which one counts, rpm leaves to chance
            seen.add(tag)
            self._slots[tag] = self._slot(tag, kind, self._start + offset, self._start + limit, count)

    def _slot(self, tag: int, kind: int, start: int, limit: int, count: int) -> _Slot:
        width = _WIDTH.get(kind, 1)
        if (
            not tags.HEADER_I18N_TABLE <= tag <= MAX_TAG
            or not CHAR <= kind <= TRANSLATED
            or (start - self._start) % width
        ):
            raise HeaderError(f"there is no tag {tag} of type {kind} at {start - self._start}")
        if count < 1 or (count > MAX_VALUES and kind != BINARY) or (kind == STRING and count != 1):
            raise HeaderError(f"tag {tag} has {count} values")
        if kind not in _TEXT_TYPES:
            end = start + width * count
            if end > limit:
                raise HeaderError(f"the value of tag {tag} has no end")
            return _Slot(kind, start, end, count)
        if self.blob.count(b"\0", start, limit) < count:
            raise HeaderError(f"the value of tag {tag} has no end")
        return _Slot(kind, start, limit, count)


def _sizes(data: bytes, start: int) -> tuple[int, int]:
    """Return how many entries and how many bytes of data a header says that it has."""
    if len(data) < start + 8:
        raise HeaderError("it is truncated")
    count, size = struct.unpack_from(">II", data, start)
    if not 1 <= count <= MAX_ENTRIES or size > MAX_DATA:
        raise HeaderError(f"it says that it has {count} entries and {size} bytes of data")
    return count, size


def _is_of_kind(tag: int, kind: int) -> bool:
    if tag in tags.TEXTS:
        return kind in _TEXT_TYPES
    if tag in tags.NUMBERS:
        return kind in _FORMAT
    return kind == BINARY or tag not in tags.BINARIES


def _is_of_signature(tag: int, kind: int) -> bool:
    """Likewise, of a signature header."""
    if tag < tags.SIG_SIZE:
        return _is_of_kind(tag, kind)
    return kind in _FORMAT if tag in {tags.SIG_SIZE, tags.SIG_PAYLOAD_SIZE} else kind == BINARY


def _laid_out(entries: Iterable[RpmEntry], data: bytearray) -> tuple[bytes, bytearray]:
    """Put values behind data, each aligned; return their rows of the index, and all the data."""
    rows: list[bytes] = []
    for entry in entries:
        data += bytes(-len(data) % entry.alignment)
        rows.append(_ROW.pack(entry.tag, entry.type, len(data), entry.count))
        data += entry.raw
    return b"".join(rows), data
