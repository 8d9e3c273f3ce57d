# SPDX-License-Identifier: Apache-2.0
"""
Packages indexes: fetched by hash, checked, and searched without being parsed.

The plain text stays in the cache under its digest, beside a table of where each package stands in it, and digests of
its pieces: what is read of it is checked again.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec

from copacetic.cache import Cache
from copacetic.compression import DecompressedReader, DecompressionError, DecompressionLimitError
from copacetic.deb.deb822 import Deb822Error, PackagesIndexer, Stanza, find_package, parse_stanza
from copacetic.errors import IntegrityError, RepositoryError, blame_input
from copacetic.http import HttpClient, RefusedError, ResumedBody
from copacetic.printable import printable
from copacetic.progress import Progress
from copacetic.repository.apt.release import IndexFile, Release
from copacetic.repository.odd import OddRows
from copacetic.repository.sums import PieceSums, SumsMaker
from copacetic.strict import read_digits
from copacetic.updates import Candidate, Origin

INDEX_VERSION = 2
FILE_LIMIT = 256 * 1024 * 1024
PLAIN_LIMIT = 1024 * 1024 * 1024
RATIO = 16
SIZE_FLOOR = 64 * 1024 * 1024
"""An index unpacks to at most this much more than RATIO times its size; Debian's to 6 times."""
BYTES_OF_ROW = 32
"""Each package has a digest of its own, which nothing makes smaller: no index has more packages than that."""
ROWS_FLOOR = 10_000
MAX_VERSIONS = 5_000
"""Of one package in one index."""
MAX_VERSIONS_SIZE = 32 * 1024 * 1024
_AHEAD = 8
"""How many MiB of plain text may wait to be indexed."""
_FORMATS = (".gz", ".xz", ".zst", ".bz2", "")
"""In the order of the time that fetching and unpacking takes together on a fast network."""
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9.+~:-]{1,256}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"(\S+)(?:\s+\((\S+)\))?")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class IndexTable(msgspec.Struct, frozen=True, array_like=True):
    """What is kept about an index's text."""

    rows: bytes
    """Of `PackagesIndexer`."""
    sums: bytes
    """Of `SumsMaker`."""


class PackagesIndex:
    """The packages that one component of a suite offers for one architecture."""

    def __init__(self, release: Release, component: str, path: Path, table: IndexTable) -> None:
        self.release = release
        self.component = component
        self._table = table.rows
        self._sums = PieceSums(table.sums)
        self._path = path
        self._data: mmap.mmap | bytes | None = None
        self.odd = OddRows()
        source = release.source
        self.origin = Origin(
            uri=source.shown_uri,
            suite=source.suite,
            component=component,
            label=printable(release.field("Label")[:200]),
            defined_in=source.defined_in,
            signed_by=release.signed_by,
            not_verified=release.not_verified,
            sha256=release.sha256,
        )

    def find(self, name: str) -> Iterator[Candidate]:
        """Yield what is offered under a name; rows that can't be used are left out, and noted in `odd`."""
        count = size = 0
        for start, end in find_package(self._table, name):
            count, size = count + 1, size + end - start
            if count > MAX_VERSIONS or size > MAX_VERSIONS_SIZE:
                raise RepositoryError(f"{self.origin.uri} {self.origin.suite} offers too many versions of {name}")
            text = bytes(self._text(start, end)[start:end]).decode("utf-8", "replace").rstrip("\n")
            version = ""
            try:
                with blame_input(RepositoryError, f"{self.origin.uri} {self.origin.suite}: {name}"):
                    stanza = parse_stanza(text)
                    version = stanza.find("Version")
                    candidate = _candidate(stanza, self.origin, self.release.source.uri)
            except RepositoryError as error:
                self.odd.add(name, version, str(error))
                continue
            yield candidate

    def providers(self, name: str) -> Iterator[Candidate]:
        """Yield packages that provide a name without having it."""
        pattern = re.compile(
            rb"^Provides: .*?(?<![a-z0-9+.-])" + re.escape(name.encode()) + rb"(?![a-z0-9+.-]).*$", re.MULTILINE
        )
        data = self._text(0, None)
        names: dict[str, None] = {}
        at = 0
        while (match := pattern.search(data, at)) is not None:
            start = data.rfind(b"\n\n", 0, match.start())
            start = 0 if start < 0 else start + 2
            line = bytes(data[start : data.find(b"\n", start)])
            names[line.removeprefix(b"Package:").strip().decode("ascii", "replace")] = None
            # A stanza answers once: looking back to its start for each of its lines would take for ever.
            at = max(data.find(b"\n\n", match.end()), match.end())
        for one in names:
            yield from self.find(one)

    def _text(self, start: int, end: int | None) -> mmap.mmap | bytes:
        """Return the whole text, checked from `start` to `end`."""
        if self._data is None:
            with self._path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if self._path.stat().st_size else b""
        if not self._sums.holds(self._data, start, len(self._data) if end is None else end):
            message = f"{self.origin.uri} {self.origin.suite}: the index that is kept is not what was written there"
            raise IntegrityError(
                message, hint="empty the cache with `copa cache prune`, and find out who has changed it"
            )
        return self._data


def _candidate(stanza: Stanza, origin: Origin, uri: str) -> Candidate:
    name, version, architecture = stanza.find("Package"), stanza.find("Version"), stanza.find("Architecture")
    sha256, filename, size = stanza.find("SHA256"), stanza.find("Filename"), read_digits(stanza.find("Size"), most=15)
    where = f"{origin.uri} {origin.suite}"
    if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version) and _NAME.fullmatch(architecture)):
        raise RepositoryError(f"{where} offers {name[:80]!r} {version[:80]!r} for {architecture[:80]!r}")
    if size is None or not _SHA256.fullmatch(sha256):
        raise RepositoryError(f"{where}: {name} {version} has no usable SHA256 and Size")
    parts = filename.split("/")
    if not filename.isascii() or ":" in parts[0] or filename.startswith("/") or ".." in parts or not filename:
        raise RepositoryError(f"{where}: {name} {version} has the file name {filename[:200]!r}")
    source = _SOURCE.fullmatch(stanza.find("Source").strip())
    return Candidate(
        name=name,
        version=version,
        architecture=architecture,
        source_name=source[1] if source else name,
        source_version=(source[2] if source else None) or version,
        # Not "+", which storages like S3 take for a blank; apt escapes it, too.
        url=f"{uri}/{quote(filename.removeprefix('./'), safe='/~:=@,')}",
        size=size,
        sha256=sha256,
        origin=origin,
        record=stanza,
    )


class AptIndexStore:
    """Fetches indexes, and keeps them across images."""

    def __init__(self, cache: Cache, http: HttpClient, progress: Progress) -> None:
        self._plain = cache.bucket("packages-indexes", version=INDEX_VERSION)
        self._tables = cache.bucket("packages-tables", version=INDEX_VERSION)
        self._http = http
        self._progress = progress

    def open(self, release: Release, component: str, architecture: str) -> PackagesIndex | None:
        """
        Return an index, or None when the suite has none for this architecture.

        Raises `RepositoryError` or `IntegrityError`.
        """
        listed = _listed(release, component, architecture)
        if listed is None:
            return None
        with self._plain.lock(listed.sha256):
            path = self._plain.path(listed.sha256)
            table = self._table(listed.sha256)
            if path is None or table is None:
                self._fetch(release, listed)
                path, table = self._plain.path(listed.sha256), self._table(listed.sha256)
        if path is None or table is None:
            raise RepositoryError(f"the index {listed.path} of {release.source.shown_uri} vanished from the cache")
        return PackagesIndex(release, component, path, table)

    def recall(self, release: Release, component: str, architecture: str) -> PackagesIndex | None:
        """Return an index that was opened before, or None when it isn't there any more."""
        listed = _listed(release, component, architecture)
        if listed is None:
            return None
        path, table = self._plain.path(listed.sha256), self._table(listed.sha256)
        return PackagesIndex(release, component, path, table) if path is not None and table is not None else None

    def _table(self, key: str) -> IndexTable | None:
        packed = self._tables.read(key)
        try:
            return msgspec.msgpack.decode(packed, type=IndexTable) if packed is not None else None
        except msgspec.DecodeError:
            return None

    def _fetch(self, release: Release, listed: IndexFile) -> None:
        """Fetch one index under the digest that the signed Release gives for it."""
        base = release.source.release_url
        folder = listed.path.rpartition("/")[0]
        by_hash = f"{folder}/by-hash/SHA256/{listed.sha256}".lstrip("/")
        where = f"{release.source.shown_uri} {release.source.suite}"
        if listed.size > FILE_LIMIT:
            raise RepositoryError(f"{where}: {listed.path} has {listed.size} bytes, the limit is {FILE_LIMIT}")
        label = f"read {release.source.suite} {listed.path.partition('/')[0]} index"
        with self._progress.task(label, total=listed.size) as task:
            try:
                with self._open(base, [*[by_hash] * release.by_hash, listed.path], listed.size) as body:
                    self.keep(body, listed, f"{where} {listed.path}", task.advance)
            except RefusedError as refused:
                raise RepositoryError(f"{where}: {listed.path} answers {refused.status}") from refused

    def _open(self, base: str, paths: Sequence[str], size: int) -> ResumedBody:
        for path in paths[:-1]:
            try:
                return self._http.stream(f"{base}/{quote(path)}", size=size)
            except RefusedError:
                continue
        return self._http.stream(f"{base}/{quote(paths[-1])}", size=size)

    def keep(self, body: _Readable, listed: IndexFile, where: str, advance: Callable[[int], None]) -> None:
        """
        Unpack an index in this thread, note its rows and write it in another; nothing stays unless its digest is right.

        Raises `RepositoryError`, also for one that stands for much more than it weighs, or `IntegrityError`.
        """
        stream = _Checked(body, advance)
        indexer, sums = PackagesIndexer(), SumsMaker()
        size = 0
        try:
            with self._plain.create(listed.sha256) as file, ThreadPoolExecutor(1) as other:

                def take(part: bytes) -> None:
                    file.write(part)
                    indexer.feed(part)
                    sums.feed(part)

                pending: deque[Future[None]] = deque()
                reader = DecompressedReader(stream, limit=PLAIN_LIMIT)
                while part := reader.read(1 << 20):
                    size += len(part)
                    if size > RATIO * stream.size + SIZE_FLOOR:
                        raise DecompressionLimitError(f"{stream.size} bytes stand for more than {size}")
                    pending.append(other.submit(take, part))
                    if len(pending) > _AHEAD:
                        pending.popleft().result()
                        _check_count(indexer, stream)
                for future in pending:
                    future.result()
                stream.check(listed.sha256, where)
                _check_count(indexer, stream)
                table = IndexTable(indexer.finish(), sums.finish())
                self._tables.write(listed.sha256, msgspec.msgpack.encode(table))
        except (DecompressionError, Deb822Error) as error:
            stream.check(listed.sha256, where)  # other bytes than the promised ones explain it better
            raise RepositoryError(f"{where} can't be read: {error}") from error


def _listed(release: Release, component: str, architecture: str) -> IndexFile | None:
    stem = "Packages" if release.source.flat else f"{component}/binary-{architecture}/Packages"
    return next((release.files[stem + end] for end in _FORMATS if stem + end in release.files), None)


def _check_count(indexer: PackagesIndexer, stream: _Checked) -> None:
    if indexer.count > stream.size // BYTES_OF_ROW + ROWS_FLOOR:
        raise DecompressionLimitError(f"{stream.size} bytes stand for {indexer.count} stanzas")


class _Checked:
    """A stream that knows the size and the digest of what went through."""

    def __init__(self, body: _Readable, advance: Callable[[int], None]) -> None:
        self._body = body
        self._advance = advance
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        part = self._body.read(size)
        self._digest.update(part)
        self.size += len(part)
        self._advance(len(part))
        return part

    def check(self, sha256: str, where: str) -> None:
        """Read what is left. Raises `IntegrityError` when all of it has another digest."""
        while self.read(1 << 18):
            pass
        if self._digest.hexdigest() != sha256:
            message = f"{where}: expected the SHA-256 {sha256}, got {self._digest.hexdigest()}"
            raise IntegrityError(message, hint="the repository is being updated, or a proxy mixes versions: try again")
