# SPDX-License-Identifier: Apache-2.0
"""Texts in the cache that are searched by their tables: what a repository offers, and what files that has."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator
from html import escape

import msgspec

from copacetic.cache import Bucket
from copacetic.errors import IntegrityError, RepositoryError
from copacetic.repository.odd import OddRows
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.primary import (
    NAMED,
    OBSOLETING,
    PROVIDING,
    OddRowError,
    PrimaryTable,
    Terms,
    find_rows,
    parse_package,
)
from copacetic.repository.rpm.sources import RpmSource
from copacetic.repository.sums import PieceSums
from copacetic.updates import Origin

__all__ = ["FileLists", "PrimaryIndex", "TextTable"]

_PKGID = re.compile(rb"<package\s[^>]*?\bpkgid=[\"']([0-9a-f]{32,128})[\"']")
_MAX_HOLDERS = 200
"""Packages that have one file."""


class TextTable(msgspec.Struct, frozen=True, array_like=True):
    """What is kept about a text."""

    rows: PrimaryTable | None
    sums: bytes
    """Of `SumsMaker`."""


class _Text:
    """A text in the cache, checked piece by piece."""

    def __init__(self, origin: Origin, bucket: Bucket, key: str, sums: bytes) -> None:
        self.origin = origin
        self._path = bucket.path(key)
        self._sums = PieceSums(sums)
        self._data: mmap.mmap | bytes | None = None

    def part(self, start: int, end: int) -> bytes:
        return bytes(self.checked(start, end)[start:end])

    def checked(self, start: int, end: int | None) -> mmap.mmap | bytes:
        """Return the whole text, checked from `start` to `end`."""
        if self._data is None:
            if self._path is None:
                raise RepositoryError(f"the metadata of {self.origin.uri} vanished from the cache")
            with self._path.open("rb") as file:
                size = self._path.stat().st_size
                self._data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if size else b""
        if not self._sums.holds(self._data, start, len(self._data) if end is None else end):
            raise IntegrityError(
                f"{self.origin.uri} {self.origin.suite}: the metadata that is kept is not what was written there",
                hint="empty the cache with `copa cache prune`, and find out who has changed it",
            )
        return self._data


class PrimaryIndex:
    """What one repository offers, whatever is excluded."""

    def __init__(self, origin: Origin, source: RpmSource, bucket: Bucket, key: str, table: TextTable) -> None:
        self.origin = origin
        self.source = source
        self.odd = OddRows()
        self._table = table.rows or PrimaryTable(b"", b"")
        self._text = _Text(origin, bucket, key, table.sums)
        self._parsed: dict[int, RpmOffer | None] = {}
        self._terms = Terms(repository=source.id, priority=source.priority, cost=source.cost)

    def belonging_to(self, module_of: Callable[[str], str]) -> None:
        """Say how to find the module stream of a package, before the first is asked for."""
        self._terms = msgspec.structs.replace(self._terms, module_of=module_of)

    def named(self, name: str) -> Iterator[RpmOffer]:
        """Yield the packages of a name; rows that can't be used are left out, and noted in `odd`."""
        return (offer for offer in self._offers(NAMED, name) if offer.name == name)

    def providing(self, name: str) -> Iterator[RpmOffer]:
        """Yield the packages that provide a name without having it, or have a file that primary metadata lists."""
        for offer in self._offers(PROVIDING, name):
            if name in offer.files or any(provided.name == name for provided in offer.provides):
                yield offer

    def obsoleting(self, name: str) -> Iterator[RpmOffer]:
        for offer in self._offers(OBSOLETING, name):
            if any(obsoleted.name == name for obsoleted in offer.obsoletes):
                yield offer

    def with_checksum(self, digest: str) -> Iterator[RpmOffer]:
        """Yield the packages whose file has a digest, of which other metadata tells more."""
        text = self._text.checked(0, None)
        at = text.find(b">" + digest.encode("ascii") + b"<")
        if at >= 0:
            start = max(text.rfind(b"<package ", 0, at), text.rfind(b"<package>", 0, at))
            match = re.compile(rb"<name>\s*([^<]{1,300}?)\s*</name>").search(text, max(start, 0), at)
            if match is not None:
                for offer in self.named(match[1].decode("utf-8", "replace")):
                    if offer.checksum is not None and offer.checksum.hex == digest:
                        yield offer

    def note_file(self, offer: RpmOffer, path: str) -> None:
        """Add a file that primary metadata doesn't list to what an offer has."""
        assert isinstance(offer.files, set)
        offer.files.add(path)

    def _offers(self, kind: bytes, name: str) -> Iterator[RpmOffer]:
        for number, start, end in find_rows(self._table, kind, name):
            if number not in self._parsed:
                self._parsed[number] = self._parse(start, end)
            offer = self._parsed[number]
            if offer is not None:
                yield offer

    def _parse(self, start: int, end: int) -> RpmOffer | None:
        try:
            return parse_package(self._text.part(start, end), self._terms, self.origin.uri)
        except OddRowError as error:
            self.odd.add(error.name, error.evr, str(error))
            return None


class FileLists:
    """What files the packages of a repository have, all of them."""

    def __init__(self, origin: Origin, bucket: Bucket, key: str, table: TextTable) -> None:
        self._text = _Text(origin, bucket, key, table.sums)

    def holders(self, path: str) -> list[str]:
        """Return the digests of the packages that have a file."""
        text = self._text.checked(0, None)
        needle = b">" + escape(path, quote=False).encode("utf-8", "replace") + b"<"
        found: dict[str, None] = {}
        at = text.find(needle)
        while at >= 0 and len(found) < _MAX_HOLDERS:
            start = text.rfind(b"<package ", 0, at)
            match = _PKGID.match(text, max(start, 0))
            if match is not None:
                found[match[1].decode("ascii")] = None
            end = text.find(b"</package>", at)
            at = text.find(needle, end) if end >= 0 else -1
        return list(found)
