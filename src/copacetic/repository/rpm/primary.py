# SPDX-License-Identifier: Apache-2.0
"""
Primary metadata: what a repository offers, searched without being parsed as a whole.

The plain text stays in the cache beside a table of where each package stands in it, by the names that it has, provides
and obsoletes, and digests of its pieces: what is read of it is checked again.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from xml.parsers import expat
from zlib import crc32

import msgspec

from copacetic.errors import InvalidVersionError, RepositoryError
from copacetic.repository.address import is_plain_address
from copacetic.repository.rpm.offer import Checksum, RpmOffer
from copacetic.repository.rpm.repomd import find_checksum, is_location, join_location
from copacetic.repository.rpm.xmlreader import MAX_DEPTH, XmlError
from copacetic.rpm.dependency import (
    EQUAL,
    GREATER,
    LESS,
    Requirement,
    RpmDependency,
    RpmDependencyError,
    make_requirement,
)
from copacetic.strict import read_digits
from copacetic.version.rpm import RpmVersion

__all__ = [
    "NAMED",
    "OBSOLETING",
    "PROVIDING",
    "OddRowError",
    "PrimaryIndexer",
    "PrimaryTable",
    "Terms",
    "find_rows",
    "parse_package",
]

NAMED, PROVIDING, OBSOLETING = b"n", b"p", b"o"
_SUMS = {kind: crc32(kind) for kind in (NAMED, PROVIDING, OBSOLETING)}
"""What the sums of names begin with. They only tell where to look: what is there is held against the name."""
MAX_PACKAGE = 4 * 1024 * 1024
"""Of one package's text; that of Fedora's fullest has 400 KB."""
MAX_ENTRIES = 50_000
"""Dependencies and files of one package."""
MAX_ROWS = 1_000
"""Packages under one name."""
_END = b"</package>"
_START = re.compile(rb"<package[\s>]")
_NAME = re.compile(rb"<name>\s*([^<]{1,300}?)\s*</name>")
_SECTIONS = {
    kind: re.compile(rb"<(?:\w+:)?" + kind + rb">(.*?)</(?:\w+:)?" + kind + rb">", re.DOTALL)
    for kind in (b"provides", b"obsoletes")
}
_USUAL_ENTRY = re.compile(rb'entry name="([^"]*)"')
_ENTRY = re.compile(rb"<(?:\w+:)?entry\s[^>]*?\bname=(?:\"([^\"]*)\"|'([^']*)')")
_FILE = re.compile(rb"<file(?:\s[^>]*)?>([^<]*)<")
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~%{}-]{0,254}")
_VERSION = re.compile(r"[A-Za-z0-9_.+~^%{}]{1,255}")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_]{1,64}")
_SOURCE = re.compile(r"[!-~]{0,500}")
_FLAGS = {"EQ": EQUAL, "LT": LESS, "GT": GREATER, "LE": LESS | EQUAL, "GE": GREATER | EQUAL}
_LISTS = frozenset({"provides", "requires", "conflicts", "obsoletes", "recommends"})
_TEXTS = frozenset({"name", "arch", "checksum", "sourcerpm", "vendor", "file"})
_ATTRIBUTES = {
    "version": (("epoch", "epoch"), ("ver", "ver"), ("rel", "rel")),
    "size": (("package", "size"),),
    "time": (("build", "build"),),
    "location": (("href", "href"), ("xml:base", "base")),
}
"""Of elements what is wanted, and under which name."""
_LONGEST = 500


class PrimaryTable(msgspec.Struct, frozen=True, array_like=True):
    """Where everything is in the text."""

    spans: bytes
    """Where each package begins and ends, as 64-bit numbers."""
    keys: bytes
    """Sorted 64-bit numbers: a name's sum with its kind above, the package's number below."""


class PrimaryIndexer:
    """
    Takes the text as it comes, and notes what stands where; what is noted is only where to look. Raises `XmlError` for
    a package without an end.
    """

    def __init__(self) -> None:
        self.count = 0
        self._pending = b""
        self._at = 0
        """Of the pending text, in all of it."""
        self._spans = array("Q")
        self._keys = array("Q")
        self._declared = False

    @property
    def names(self) -> int:
        """How many there are, under which packages are found."""
        return len(self._keys)

    def feed(self, part: bytes) -> None:
        data = self._pending + part if self._pending else part
        at = 0
        while True:
            end = data.find(_END, at)
            if end < 0:
                break
            end += len(_END)
            match = _START.search(data, at, end)
            if match is not None:
                self._note(data[match.start() : end], self._at + match.start())
            at = end
        # A tag may go on in the next part, and nothing before the next package is of use.
        self._pending = data[at:]
        self._at += at
        _check_size(self._pending)

    def _note(self, text: bytes, start: int) -> None:
        _check_size(text)
        number = self.count
        self.count += 1
        self._spans.extend((start, start + len(text)))
        match = _NAME.search(text)
        own = match[1] if match is not None else b""
        provided = {*_entries(text, b"provides"), *_FILE.findall(text)}
        provided.discard(own)
        obsoleted = _entries(text, b"obsoletes")
        if b"&" in text:
            own, provided, obsoleted = _plain(own), {*map(_plain, provided)}, {*map(_plain, obsoleted)}
        self._keys.append(crc32(own, _SUMS[NAMED]) << 32 | number)
        sum_of = _SUMS[PROVIDING]
        self._keys.extend([crc32(name, sum_of) << 32 | number for name in provided])
        if obsoleted:
            sum_of = _SUMS[OBSOLETING]
            self._keys.extend([crc32(name, sum_of) << 32 | number for name in obsoleted])

    def finish(self) -> PrimaryTable:
        """Return what was noted, when all is there."""
        return PrimaryTable(self._spans.tobytes(), array("Q", sorted(self._keys)).tobytes())


def _check_size(text: bytes) -> None:
    if len(text) > MAX_PACKAGE:
        raise XmlError(f"a package of more than {MAX_PACKAGE} bytes")


def _entries(text: bytes, kind: bytes) -> set[bytes]:
    """Return the names in a list of dependencies; fast where everything is spelled as most repositories do."""
    start = text.find(b"<rpm:" + kind + b">")
    if start >= 0:
        section = text[start : text.find(b"</rpm:" + kind + b">", start)]
    elif b"<rpm:" in text or (match := _SECTIONS[kind].search(text)) is None:
        return set()
    else:
        section = match[1]
    names = _USUAL_ENTRY.findall(section)
    if len(names) == section.count(b"entry "):
        return set(names)
    return {one or other for one, other in _ENTRY.findall(section)}


def _plain(name: bytes) -> bytes:
    return unescape(name.decode("utf-8", "surrogateescape")).encode("utf-8", "replace") if b"&" in name else name


def find_rows(table: PrimaryTable, kind: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """
    Yield numbers and places of packages that may have, provide or obsolete a name: others may be among them.

    Raises `RepositoryError` when there are too many.
    """
    keys, spans = memoryview(table.keys).cast("Q"), memoryview(table.spans).cast("Q")
    first = crc32(name.encode("utf-8", "replace"), _SUMS[kind]) << 32
    start, end = bisect_left(keys, first), bisect_left(keys, first + (1 << 32))
    if end - start > MAX_ROWS:
        raise RepositoryError(f"more than {MAX_ROWS} packages are offered for {name[:80]!r}")
    for key in keys[start:end]:
        number = key & 0xFFFF_FFFF
        yield number, spans[2 * number], spans[2 * number + 1]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository says of all its packages."""

    repository: str
    priority: int
    cost: int
    module_of: Callable[[str], str] = lambda _nevra: ""


def parse_package(text: bytes, terms: Terms, where: str) -> RpmOffer:
    """Read one package's text. Raises `RepositoryError` for one that can't be used, saying which."""
    reader = _PackageReader()
    try:
        reader.read(text)
        return reader.make(terms, where)
    except (XmlError, RpmDependencyError, InvalidVersionError) as error:
        name = reader.values.get("name", "")[:80]
        raise OddRowError(f"{where}: what it says of {name!r} can't be read: {error}", reader) from error


class OddRowError(RepositoryError):
    """A row that can't be used, with what is known of it."""

    def __init__(self, message: str, reader: _PackageReader) -> None:
        super().__init__(message)
        self.name = reader.values.get("name", "")
        self.evr = reader.evr


class _PackageReader:
    """
    Gathers what is needed of one package. There are many of them, and most of a text is passed over: so this goes by
    the names of elements alone, and asks for text only where it is wanted.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._lists: dict[str, list[tuple[str, int, str]]] = {name: [] for name in _LISTS}
        self._list: list[tuple[str, int, str]] | None = None
        self._files: set[str] = set()
        self._count = self._depth = 0
        self._text: list[str] = []
        self._parser = expat.ParserCreate()

    @property
    def evr(self) -> str:
        epoch = self.values.get("epoch", "0").lstrip("0")
        return f"{epoch}{':' if epoch else ''}{self.values.get('ver', '')}-{self.values.get('rel', '')}"

    def read(self, text: bytes) -> None:
        """Raises `XmlError`. Inside an element no document type can stand, and so no entity."""
        parser = self._parser
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(b"<metadata>" + text + b"</metadata>", True)
        except expat.ExpatError as error:
            raise XmlError(f"no XML: {error}") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise XmlError(f"elements more than {MAX_DEPTH} deep")
        if name.endswith("entry"):
            if self._list is not None:
                self._note()
                self._list.append(_entry(attributes))
            return
        name = name.rpartition(":")[2]
        if name in _TEXTS:
            self._text.clear()
            self._parser.CharacterDataHandler = self._text.append
        elif name in _ATTRIBUTES:
            self.values.update((key, attributes.get(given, "")) for given, key in _ATTRIBUTES[name])
        else:
            self._list = self._lists.get(name)
        if name == "checksum":
            self.values["algorithm"] = attributes.get("type", "")

    def _end(self, name: str) -> None:
        self._depth -= 1
        name = name.rpartition(":")[2]
        if name not in _TEXTS:
            return
        text = "".join(self._text)
        self._parser.CharacterDataHandler = None
        if name == "file":
            self._note()
            self._files.add(text)
        else:
            self.values.setdefault(name, text.strip()[:_LONGEST])

    def _note(self) -> None:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise XmlError(f"more than {MAX_ENTRIES} dependencies and files")

    def make(self, terms: Terms, where: str) -> RpmOffer:
        values = self.values
        name, architecture, evr = values.get("name", ""), values.get("arch", ""), self.evr
        if not (_PACKAGE_NAME.fullmatch(name) and _ARCHITECTURE.fullmatch(architecture)):
            raise OddRowError(f"{where} offers {name[:80]!r} for {architecture[:80]!r}", self)
        parts = [values.get("ver", ""), values.get("rel", "")]
        epoch = read_digits(values.get("epoch") or "0", most=9)
        if epoch is None or not all(_VERSION.fullmatch(part) for part in parts):
            raise OddRowError(f"{where} offers {name} with the version {evr[:80]!r}", self)
        RpmVersion(evr)
        checksum = find_checksum(values.get("algorithm", ""), values.get("checksum", ""), weak=True)
        size = read_digits(values.get("size", ""), most=12)
        if checksum is None or not size:
            raise OddRowError(f"{where}: {name} {evr} has no usable digest and size", self)
        base, location = values.get("base", "").rstrip("/"), values.get("href", "")
        if not is_location(location) or (base and not is_plain_address(base)):
            raise OddRowError(f"{where}: {name} {evr} has the location {base[:200]} {location[:200]!r}", self)
        source = values.get("sourcerpm", "")
        nevra = f"{name}-{epoch}:{'-'.join(parts)}.{architecture}"
        return RpmOffer(
            name=name,
            evr=evr,
            architecture=architecture,
            provides=tuple(self._provides()),
            requires=self._requirements("requires"),
            conflicts=self._requirements("conflicts"),
            obsoletes=tuple(one for one in self._requirements("obsoletes") if isinstance(one, RpmDependency)),
            recommends=self._requirements("recommends"),
            files=self._files,
            location=join_location(base, location) if base else location,
            checksum=Checksum(*checksum),
            size=size,
            repository=terms.repository,
            priority=terms.priority,
            cost=terms.cost,
            module=terms.module_of(nevra),
            source=source if _SOURCE.fullmatch(source) else "",
            build_time=read_digits(values.get("build", ""), most=12) or 0,
            vendor=values.get("vendor", ""),
        )

    def _requirements(self, kind: str) -> tuple[Requirement, ...]:
        return tuple(dict.fromkeys(make_requirement(*entry) for entry in self._lists[kind]))

    def _provides(self) -> Iterator[RpmDependency]:
        """What is provided can't be rich; what can't be asked for need not be understood."""
        for entry in dict.fromkeys(self._lists["provides"]):
            try:
                found = make_requirement(*entry)
            except RpmDependencyError:
                continue
            if isinstance(found, RpmDependency):
                yield found


def _entry(attributes: Mapping[str, str]) -> tuple[str, int, str]:
    flags = _FLAGS.get(attributes.get("flags", ""), 0)
    if not flags:
        return attributes.get("name", ""), 0, ""
    epoch, version, release = (attributes.get(key, "") for key in ("epoch", "ver", "rel"))
    epoch = epoch.lstrip("0")
    return (
        attributes.get("name", ""),
        flags,
        f"{epoch}{':' if epoch else ''}{version}{'-' if release else ''}{release}",
    )
