# SPDX-License-Identifier: Apache-2.0
"""
Metadata of one repository: found through mirrors, verified, and kept under its digests.

repomd.xml says what everything else has to be; what vouches for itself is a signature, a metalink, or nothing. Then
packages have to be signed one by one, and nothing tells a repository that stands still.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from copacetic.cache import Bucket, Cache
from copacetic.compression import DecompressedReader, DecompressionLimitError
from copacetic.errors import (
    CopaError,
    IntegrityError,
    RepositoryError,
    UnreachableError,
    blame_input,
)
from copacetic.http import HttpClient, RefusedError
from copacetic.progress import Progress
from copacetic.repository.address import Place, select_mirror
from copacetic.repository.conditional import FetchedFile, fetch_conditionally, recall_answer
from copacetic.repository.rpm.index import FileLists, PrimaryIndex, TextTable
from copacetic.repository.rpm.mirrors import LIST_LIMIT, parse_mirrors
from copacetic.repository.rpm.modules import ModuleDocument, parse_modules
from copacetic.repository.rpm.primary import PrimaryIndexer
from copacetic.repository.rpm.repomd import REPOMD_LIMIT, MetadataFile, Repomd, join_location, parse_repomd
from copacetic.repository.rpm.sources import RpmSource
from copacetic.repository.rpm.trust import MetadataPolicy, judge_repomd
from copacetic.repository.rpm.updateinfo import Advisory, AdvisoryReader
from copacetic.repository.rpm.xmlreader import read_xml
from copacetic.repository.seen import SeenDates
from copacetic.repository.sums import SumsMaker
from copacetic.rpm.signature import RpmKeys
from copacetic.updates import Origin

__all__ = ["OpenedRepository", "RpmMetadataStore"]

METADATA_VERSION = 1
FILE_LIMIT = 512 * 1024 * 1024
PLAIN_LIMIT = 1024 * 1024 * 1024
RATIO = 24
"""Updates' descriptions repeat each other: an updateinfo unpacks to 20 times its size, a primary to 12."""
SIZE_FLOOR = 64 * 1024 * 1024
BYTES_OF_ROW = 32
ROWS_FLOOR = 10_000
MODULES_LIMIT = 64 * 1024 * 1024
BYTES_OF_NAME = 4
NAMES_FLOOR = 500_000
_SIGNATURE_LIMIT = 1024 * 1024
_TRIES = 5
"""Mirrors that are asked for one file."""
_T = TypeVar("_T")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class OpenedRepository(Struct, frozen=True, kw_only=True):
    """One whose repomd.xml is known."""

    source: RpmSource
    repomd: Repomd
    urls: tuple[str, ...]
    """Where its files are, the one first that gave the repomd.xml."""
    origin: Origin
    keys: RpmKeys
    is_signed: bool
    """Whether a trusted key vouches for the repomd.xml."""


class RpmMetadataStore:
    """Fetches metadata, and keeps it across images."""

    def __init__(self, cache: Cache, http: HttpClient, progress: Progress, seen: SeenDates) -> None:
        self._http = http
        self._progress = progress
        self._seen = seen
        self._answers = cache.bucket("rpm-answers", version=METADATA_VERSION)
        self._texts = cache.bucket("rpm-texts", version=METADATA_VERSION)
        self._tables = cache.bucket("rpm-tables", version=METADATA_VERSION)

    # -- repomd.xml --------------------------------------------------------------------------------------------

    def open(self, source: RpmSource, keys: RpmKeys, policy: MetadataPolicy) -> OpenedRepository:
        """Fetch and verify its description. Raises `RepositoryError` or one of its kinds, or `UnreachableError`."""
        urls, checksums = self._places(source, policy)
        failures: list[CopaError] = []
        with self._progress.task(f"read {source.id} repomd.xml"):
            for url in urls[:_TRIES]:
                try:
                    found, signature = self._fetch_repomd(source, url, checksums)
                    break
                except (RepositoryError, UnreachableError, IntegrityError) as error:
                    failures.append(error)
            else:
                raise failures[0]
        opened = self._verified(source, found, signature, keys, policy, urls=tuple(dict.fromkeys((url, *urls))))
        if not opened.is_signed:
            return opened
        date = opened.repomd.date
        where = f"{opened.origin.uri} {source.id}"
        held = self._seen.hold(where, date, key=opened.origin.signed_by, trusted=keys.fingerprints)
        doubt = "; ".join(filter(None, [opened.origin.not_verified, held]))
        return replace(opened, origin=replace(opened.origin, not_verified=doubt))

    def recall(self, source: RpmSource, sha256: str, keys: RpmKeys, policy: MetadataPolicy) -> OpenedRepository | None:
        """
        Return a repository as it was when a repomd.xml with this digest was there, if that is kept and would still be
        trusted; its age doesn't matter.
        """
        found = recall_answer(self._answers, sha256)
        if found is None:
            return None
        signature = self._answers.read(_signature_key(sha256)) or b""
        base = self._answers.read(_base_key(sha256))
        urls = (*([base.decode("utf-8", "replace")] if base else []), *source.urls)
        try:
            allowed = replace(policy, allow_expired=True)
            return self._verified(source, found, signature, keys, allowed, urls=tuple(dict.fromkeys(urls)))
        except RepositoryError:
            return None

    def _places(self, source: RpmSource, policy: MetadataPolicy) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        if not source.mirrorlist:
            return source.urls, ()
        found = fetch_conditionally(source.mirrorlist, self._http, self._answers, limit=LIST_LIMIT)
        if found is None:
            raise _absent(source, "the list of its mirrors is not there")
        listed = parse_mirrors(found.body, f"{source.shown}: its list of mirrors", policy.variables)
        urls = (select_mirror(Place(url, None), policy.mirrors)[0].url for url in listed.urls)
        return tuple(dict.fromkeys(urls)), listed.checksums

    def _fetch_repomd(
        self, source: RpmSource, url: str, checksums: Sequence[tuple[str, str]]
    ) -> tuple[FetchedFile, bytes]:
        found = fetch_conditionally(f"{url}/repodata/repomd.xml", self._http, self._answers, limit=REPOMD_LIMIT)
        if found is None:
            raise _absent(source, f"{url} has no repodata/repomd.xml")
        if checksums and not any(hashlib.new(name, found.body).hexdigest() == digest for name, digest in checksums):
            message = f"{source.shown}: the repomd.xml of {url} is none that the metalink names"
            raise IntegrityError(message, hint="the mirror is behind, or somebody has changed it: try again")
        detached = fetch_conditionally(
            f"{url}/repodata/repomd.xml.asc", self._http, self._answers, limit=_SIGNATURE_LIMIT
        )
        signature = detached.body if detached is not None else b""
        if (self._answers.read(_signature_key(found.sha256)) or b"") != signature:
            self._answers.write(_signature_key(found.sha256), signature)
        if self._answers.read(_base_key(found.sha256)) != url.encode():
            self._answers.write(_base_key(found.sha256), url.encode())
        return found, signature

    def _verified(
        self,
        source: RpmSource,
        found: FetchedFile,
        signature: bytes,
        keys: RpmKeys,
        policy: MetadataPolicy,
        *,
        urls: tuple[str, ...],
    ) -> OpenedRepository:
        verified, doubt = judge_repomd(source, found.body, signature, keys, policy)
        repomd = parse_repomd(found.body, source.shown)
        origin = Origin(
            uri=source.urls[0] if source.urls else source.mirrorlist.partition("?")[0],
            suite=source.id,
            component="",
            defined_in=source.defined_in,
            signed_by=verified.fingerprint if verified is not None else "",
            sha256=found.sha256,
            not_verified=doubt,
        )
        return OpenedRepository(
            source=source, repomd=repomd, urls=urls, origin=origin, keys=keys, is_signed=verified is not None
        )

    # -- what it lists -----------------------------------------------------------------------------------------

    def primary(self, opened: OpenedRepository) -> PrimaryIndex:
        """Raises `RepositoryError` or `IntegrityError`."""
        listed = opened.repomd.files["primary"]
        key = self._text(opened, listed, self._index_primary)
        return PrimaryIndex(opened.origin, opened.source, *self._kept(opened, key))

    def files(self, opened: OpenedRepository) -> FileLists | None:
        """Return what files all its packages have; None where it doesn't say."""
        listed = opened.repomd.file("filelists")
        if listed is None:
            return None
        key = self._text(opened, listed, self._index_files)
        return FileLists(opened.origin, *self._kept(opened, key))

    def advisories(self, opened: OpenedRepository) -> tuple[Advisory, ...]:
        listed = opened.repomd.file("updateinfo")
        if listed is None:
            return ()

        def read(stream: _Readable) -> tuple[Advisory, ...]:
            reader = AdvisoryReader()
            read_xml(stream, reader.start, reader.end)
            return tuple(reader.found)

        return self._condensed(opened, listed, tuple[Advisory, ...], read)

    def modules(self, opened: OpenedRepository) -> tuple[ModuleDocument, ...]:
        listed = opened.repomd.file("modules")
        if listed is None:
            return ()

        def read(stream: _Readable) -> tuple[ModuleDocument, ...]:
            data = b"".join(iter(lambda: stream.read(1 << 20), b""))
            return parse_modules(data.decode("utf-8", "replace"), opened.source.shown)

        return self._condensed(opened, listed, tuple[ModuleDocument, ...], read)

    def _condensed(
        self, opened: OpenedRepository, listed: MetadataFile, kind: type[_T], read: Callable[[_Readable], _T]
    ) -> _T:
        """Read a file once, and keep what is of use."""
        key = f"{listed.kind[:40]}-{listed.checksum[1]}"
        with self._tables.lock(key):
            packed = self._tables.read(key)
            if packed is not None:
                try:
                    return msgspec.msgpack.decode(packed, type=kind)
                except msgspec.DecodeError:
                    pass
            found = self._fetch(opened, listed, read)
            self._tables.write(key, msgspec.msgpack.encode(found))
            return found

    def _text(
        self, opened: OpenedRepository, listed: MetadataFile, make: Callable[[_Readable, str, int], TextTable]
    ) -> str:
        """See to it that a file's plain text and its table are kept; returns their key."""
        key = f"{listed.kind[:40]}-{listed.checksum[1]}"
        with self._texts.lock(key):
            if self._texts.path(key) is None or self._table(key) is None:
                table = self._fetch(opened, listed, lambda stream: make(stream, key, listed.size or 0))
                self._tables.write(key, msgspec.msgpack.encode(table))
        return key

    def _kept(self, opened: OpenedRepository, key: str) -> tuple[Bucket, str, TextTable]:
        table = self._table(key)
        if table is None:
            raise RepositoryError(f"the metadata of {opened.source.shown} vanished from the cache")
        return self._texts, key, table

    def _table(self, key: str) -> TextTable | None:
        packed = self._tables.read(key)
        try:
            return msgspec.msgpack.decode(packed, type=TextTable) if packed is not None else None
        except msgspec.DecodeError:
            return None

    def _index_primary(self, stream: _Readable, key: str, size: int) -> TextTable:
        indexer, sums = PrimaryIndexer(), SumsMaker()
        with self._texts.create(key) as file:
            while part := stream.read(1 << 20):
                file.write(part)
                indexer.feed(part)
                sums.feed(part)
                if size and indexer.count > size // BYTES_OF_ROW + ROWS_FLOOR:
                    raise DecompressionLimitError(f"{size} bytes stand for {indexer.count} packages")
                if indexer.names > size // BYTES_OF_NAME + NAMES_FLOOR:
                    raise DecompressionLimitError(f"{size} bytes stand for {indexer.names} names")
        return TextTable(indexer.finish(), sums.finish())

    def _index_files(self, stream: _Readable, key: str, _size: int) -> TextTable:
        sums = SumsMaker()
        with self._texts.create(key) as file:
            while part := stream.read(1 << 20):
                file.write(part)
                sums.feed(part)
        return TextTable(None, sums.finish())

    # -- files -------------------------------------------------------------------------------------------------

    def _fetch(self, opened: OpenedRepository, listed: MetadataFile, read: Callable[[_Readable], _T]) -> _T:
        """Fetch a file of a repository's, and read it while it comes; nothing counts unless its digest is right."""
        where = f"{opened.source.shown}: its {listed.kind[:80]} metadata"
        if (listed.size or 0) > FILE_LIMIT:
            raise RepositoryError(f"{where} has {listed.size} bytes, the limit is {FILE_LIMIT}")
        failures: list[CopaError] = []
        for url in opened.urls[:_TRIES]:
            try:
                return self._read_once(join_location(url, listed.location), listed, where, read)
            except (RepositoryError, UnreachableError, IntegrityError) as error:
                failures.append(error)
        raise failures[0]

    def _read_once(self, url: str, listed: MetadataFile, where: str, read: Callable[[_Readable], _T]) -> _T:
        label = f"read {listed.location.rpartition('/')[2].rpartition('-')[2]}"
        with self._progress.task(label, total=listed.size) as task, self._body(url, listed, where) as body:
            checked = _Checked(body, listed, task.advance)
            limit = min(PLAIN_LIMIT, RATIO * (listed.size or FILE_LIMIT // 8) + SIZE_FLOOR)
            limit = min(limit, MODULES_LIMIT) if listed.kind == "modules" else limit
            reader = DecompressedReader(checked, limit=limit)
            try:
                with blame_input(RepositoryError, where):
                    result = read(reader)
            except RepositoryError:
                checked.check(where)  # other bytes than the promised ones explain it better
                raise
            checked.check(where)
            return result

    def _body(self, url: str, listed: MetadataFile, where: str) -> AbstractContextManager[_Readable]:
        place = url.rpartition("/")[0]
        if listed.size is None:
            with self._http.open("GET", url) as response:
                if response.status != 200:
                    raise RepositoryError(f"{where}: {place} answers {response.status}")
                return nullcontext(io.BytesIO(response.read_all(FILE_LIMIT)))
        try:
            return self._http.stream(url, size=listed.size)
        except RefusedError as refused:
            raise RepositoryError(f"{where}: {place} answers {refused.status}") from refused


class _Checked:
    """A stream that knows the digest of what went through."""

    def __init__(self, body: _Readable, listed: MetadataFile, advance: Callable[[int], None]) -> None:
        self._body = body
        self._advance = advance
        self._expected = listed.checksum
        self._digest = hashlib.new(listed.checksum[0])

    def read(self, size: int, /) -> bytes:
        part = self._body.read(size)
        self._digest.update(part)
        self._advance(len(part))
        return part

    def check(self, where: str) -> None:
        """Read what is left. Raises `IntegrityError` when all of it has another digest."""
        while self.read(1 << 18):
            pass
        name, expected = self._expected
        if self._digest.hexdigest() != expected:
            message = f"{where}: expected the {name.upper()} {expected}, got {self._digest.hexdigest()}"
            raise IntegrityError(message, hint="the repository is being updated, or a proxy mixes versions: try again")


def _absent(source: RpmSource, what: str) -> RepositoryError:
    hint = "a release past its end may have moved to an archive: name a mirror with --repository-mirror"
    if source.for_subscribers:
        hint = "it is for subscribers: --repository-secret ADDRESS=FILE gives the certificate, login or token"
    return RepositoryError(f"{source.shown}: {what}", hint=hint)


def _signature_key(sha256: str) -> str:
    return f"{sha256}.signature"


def _base_key(sha256: str) -> str:
    return f"{sha256}.base"
