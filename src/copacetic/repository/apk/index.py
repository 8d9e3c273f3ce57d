# SPDX-License-Identifier: Apache-2.0
"""
Indexes: fetched conditionally, verified, and searched without being parsed; those of apk 3 as the text of a v2 one.

The plain text stays in the cache under the digest of the file it came in, beside a table of which row answers to
which name. Of a whole distribution's rows only those are parsed that an image can reach.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from urllib.parse import quote

import msgspec

from copacetic.apk.stanza import ApkStanza, checksum_bytes, parse_fields
from copacetic.cache import Cache
from copacetic.errors import RepositoryError, SignatureError, blame_input
from copacetic.http import HttpClient
from copacetic.oci.tarstream import TarLimits
from copacetic.printable import printable
from copacetic.progress import Progress
from copacetic.repository.apk.adb import Adb
from copacetic.repository.apk.container import BytesReader, StrictTarReader, iter_members, read_entries
from copacetic.repository.apk.package import SIGNATURE_NAME, ApkSignature
from copacetic.repository.apk.signature import ApkKeyring, Key
from copacetic.repository.apk.sources import ApkSource
from copacetic.repository.conditional import FetchedFile, fetch_conditionally, recall_answer
from copacetic.repository.odd import OddRows
from copacetic.repository.seen import SeenDates
from copacetic.strict import read_digits
from copacetic.updates import Candidate, Origin

__all__ = ["ApkIndex", "ApkIndexStore", "make_candidate"]

INDEX_VERSION = 2
FILE_LIMIT = 256 * 1024 * 1024
PLAIN_LIMIT = 1024 * 1024 * 1024
RATIO = 12
SIZE_FLOOR = 16 * 1024 * 1024
"""An index unpacks to at most this much more than RATIO times its size; Alpine's to 5 times."""
BYTES_OF_ROW, ROWS_FLOOR = 32, 10_000
"""Each row has an identity of its own, which nothing makes smaller: no index has more rows than that."""
BYTES_OF_NAME, NAMES_FLOOR = 12, 10_000
MAX_ROWS = 10_000
"""That have or provide one name, in one index."""
"""Of the names that rows have or ask for, each costs some 250 bytes; Alpine's indexes have one for 28 bytes."""
_SIGNATURE_LIMIT = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9._+-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}")
_INSTALLED_SIZE = re.compile(r"[0-9]{1,15}")
_LINE = re.compile(rb"^([Ppi]):(.+)$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{([a-z]+)\}")
_PATH = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./+~-]{0,500}")
_YEAR_9000 = 221_845_392_000
_NAME_END = re.compile(rb"[<>=~@]")


class _Table(msgspec.Struct, frozen=True, array_like=True):
    """Where everything is in an index's text."""

    description: str
    rows: list[int]
    """Where each row starts, in bytes."""
    names: dict[str, list[int]]
    """Rows by the names that they have or provide."""
    install_if: dict[str, list[int]]
    """Rows by the names in their install_if."""
    name_pattern: str = ""
    """How the path of a package is made from `${name}`, `${version}` and `${arch}`; "" is the usual way."""
    built: int = 0
    """When it was made, in seconds, as the signed archive has it; 0 for none."""


_Verifier = Callable[[], Key]
_Reader = Callable[[], tuple[_Table, bytes]]
"""Reads a verified index: a table, and the text that it is about."""


class ApkIndex:
    """What one repository offers for one architecture."""

    def __init__(
        self, source: ApkSource, origin: Origin, architecture: str, table: _Table, text: bytes, digest: str
    ) -> None:
        self.source = source
        self.origin = origin
        self.digest = digest
        """Of the index file."""
        self.tag = source.tag
        self._architecture = architecture
        self._table = table
        self._text = text
        self._parsed: dict[int, Mapping[str, str] | None] = {}
        self.odd = OddRows()

    def rows(self, name: str) -> Iterator[Mapping[str, str]]:
        """Yield what has or provides a name; rows that can't be used are left out, and noted in `odd`."""
        yield from self._parse(self._table.names.get(name, ()), name)

    def rows_if(self, name: str) -> Iterator[Mapping[str, str]]:
        """Yield what comes in by itself when (among others) this name is installed."""
        yield from self._parse(self._table.install_if.get(name, ()), name)

    def package_url(self, name: str, version: str, architecture: str) -> str:
        """Raises `RepositoryError` for a pattern of names that is not understood."""
        if not self._table.name_pattern:
            base = self.source.index_url(architecture).rpartition("/")[0]
            return f"{base}/{quote(f'{name}-{version}')}.apk"  # not "+", which S3 takes for a blank
        values = {"name": name, "version": version, "arch": architecture}
        parts = _VARIABLE.split(self._table.name_pattern)
        parts[1::2] = [values.get(variable, "\0") for variable in parts[1::2]]
        path = "".join(parts)
        if not _PATH.fullmatch(path) or ".." in path.split("/"):
            raise RepositoryError(f"{self.origin.uri} names packages by {self._table.name_pattern[:80]!r}")
        base = self.source.url.rpartition("/")[0] if self.source.kind == "ndx" else self.source.url
        return f"{base}/{quote(path)}"

    def _parse(self, numbers: Sequence[int], name: str) -> Iterator[Mapping[str, str]]:
        if len(numbers) > MAX_ROWS:
            raise RepositoryError(f"{self.origin.uri} offers {name[:80]!r} more than {MAX_ROWS} times")
        for number in numbers:
            row = self._row(number)
            if row is not None:
                yield row

    def _row(self, number: int) -> Mapping[str, str] | None:
        """Parse a row; one for another architecture is none."""
        if number not in self._parsed:
            start, end = self._table.rows[number : number + 2]
            row = parse_fields(self._text[start:end].decode("utf-8", "surrogateescape"))
            fits = row.get("A", "noarch") in {self._architecture, "noarch"}
            try:
                self._check(row)
            except RepositoryError as error:
                self.odd.add(row.get("P", ""), row.get("V", ""), str(error))
                fits = False
            self._parsed[number] = row if fits else None
        return self._parsed[number]

    def _check(self, row: Mapping[str, str]) -> None:
        name, version, size = row.get("P", ""), row.get("V", ""), read_digits(row.get("S", ""), most=15)
        where = self.origin.uri
        if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version) and _NAME.fullmatch(row.get("A", "noarch"))):
            raise RepositoryError(f"{where} offers {name[:80]!r} {version[:80]!r} for {row.get('A', '')[:80]!r}")
        if checksum_bytes(row.get("C", "")) is None or size is None:
            raise RepositoryError(f"{where}: {name} {version} has no usable identity and size")
        installed = row.get("I", "0" if self.source.is_v3 else "")  # apk 3 leaves out a zero
        if not _INSTALLED_SIZE.fullmatch(installed):
            raise RepositoryError(f"{where}: {name} {version} has no usable installed size: {installed[:80]!r}")


def make_candidate(index: ApkIndex, row: Mapping[str, str]) -> Candidate:
    """Describe a row for everybody else; what proves the file is its identity."""
    name, version, architecture = row["P"], row["V"], row.get("A") or "noarch"
    return Candidate(
        name=name,
        version=version,
        architecture=architecture,
        source_name=row.get("o") or name,
        source_version=version,
        url=index.package_url(name, version, architecture),
        size=int(row["S"]),
        sha256="",
        origin=index.origin,
        record=ApkStanza(row),
    )


class ApkIndexStore:
    """Fetches indexes, and keeps them across images."""

    def __init__(self, cache: Cache, http: HttpClient, progress: Progress, seen: SeenDates) -> None:
        self._seen = seen
        self._answers = cache.bucket("apk-indexes", version=INDEX_VERSION)
        self._texts = cache.bucket("apk-texts", version=INDEX_VERSION)
        self._tables = cache.bucket("apk-tables", version=INDEX_VERSION)
        self._verdicts = cache.bucket("apk-verdicts", version=INDEX_VERSION)
        self._http = http
        self._progress = progress

    def open(self, source: ApkSource, architecture: str, keyring: ApkKeyring, *, allow_unsigned: bool) -> ApkIndex:
        """Fetch, verify and open an index. Raises `RepositoryError` or `SignatureError`."""
        url = source.index_url(architecture)
        where = f"{source.url} ({source.defined_in})"
        with self._progress.task(" ".join(filter(None, ("read", source.branch, source.component, "index")))):
            found = fetch_conditionally(url, self._http, self._answers, limit=FILE_LIMIT)
        if found is None:
            raise RepositoryError(
                f"{where} has no index for {architecture}",
                hint="a branch past its end may have moved to an archive: name a mirror with --repository-mirror",
            )
        return self._open(found, source, architecture, keyring, allow_unsigned=allow_unsigned, dated=True)

    def recall(
        self, sha256: str, source: ApkSource, architecture: str, keyring: ApkKeyring, *, allow_unsigned: bool
    ) -> ApkIndex | None:
        """
        Return an index that was fetched before, by the digest of its file, when it is still there and a key that is
        trusted now has signed it; its age doesn't matter.
        """
        found = recall_answer(self._answers, sha256)
        if found is None:
            return None
        try:
            return self._open(found, source, architecture, keyring, allow_unsigned=allow_unsigned, dated=False)
        except RepositoryError:
            return None

    def _open(
        self,
        found: FetchedFile,
        source: ApkSource,
        architecture: str,
        keyring: ApkKeyring,
        *,
        allow_unsigned: bool,
        dated: bool,
    ) -> ApkIndex:
        where = f"{source.url} ({source.defined_in})"
        verify, read = (self._open_v3 if source.is_v3 else self._open_v2)(found.body, where, keyring)
        key, not_verified = None, ""
        try:
            key = verify()
        except SignatureError as error:
            if not allow_unsigned:
                raise
            not_verified = f"{error}: allowed by --allow-unsigned-repository"
        table, text = self._kept(found.sha256, read)
        if key is not None and dated:
            date = datetime.fromtimestamp(table.built, UTC) if 0 < table.built < _YEAR_9000 else None
            trusted = {one.fingerprint for one in keyring.keys}
            place = f"{source.url} {architecture}"
            not_verified = self._seen.hold(place, date, key=key.fingerprint, trusted=trusted)
        origin = Origin(
            uri=source.url,
            suite=source.branch,
            component=source.component,
            label=table.description,
            defined_in=source.defined_in,
            signed_by=key.name if key is not None else "",
            tag=source.tag,
            sha256=found.sha256,
            not_verified=not_verified,
        )
        return ApkIndex(source, origin, architecture, table, text, found.sha256)

    def _open_v2(self, body: bytes, where: str, keyring: ApkKeyring) -> tuple[_Verifier, _Reader]:
        """Return how to find out who signed an index, and how to read it."""
        signatures, start = _signatures(body, where)
        verify = partial(keyring.verify, signatures, body[start:], where, verdicts=self._verdicts)
        return verify, lambda: read_v2(body, where)

    def _open_v3(self, body: bytes, where: str, keyring: ApkKeyring) -> tuple[_Verifier, _Reader]:
        from copacetic.repository.apk.v3 import open_index

        with blame_input(RepositoryError, f"{where}: the index"):
            adb = open_index(body)
        return partial(keyring.verify_v3, adb.signatures, where), lambda: read_v3(adb, len(body), where)

    def _kept(self, key: str, read: _Reader) -> tuple[_Table, bytes]:
        with self._tables.lock(key):
            packed, text = self._tables.read(key), self._texts.read(key)
            if packed is not None and text is not None:
                try:
                    return msgspec.msgpack.decode(packed, type=_Table), text
                except msgspec.DecodeError:
                    pass
            table, text = read()
            self._texts.write(key, text)
            self._tables.write(key, msgspec.msgpack.encode(table))
        return table, text


def _signatures(body: bytes, where: str) -> tuple[list[ApkSignature], int]:
    """Return the signatures in front of an index, and where what they cover begins."""
    found: list[ApkSignature] = []
    with blame_input(RepositoryError, f"{where}: the index"):
        for member in iter_members(BytesReader(body), limit=_plain_limit(body)):
            head = member.read(_SIGNATURE_LIMIT)
            if not head.startswith(b".SIGN."):
                return found, member.offset
            while part := member.read():
                head += part
                if len(head) > _SIGNATURE_LIMIT:
                    raise RepositoryError(f"{where}: the index has signatures of more than {_SIGNATURE_LIMIT} bytes")
            for entry, data in read_entries(head):
                match = SIGNATURE_NAME.fullmatch(entry.path)
                if match is None:
                    raise RepositoryError(f"{where}: the index has {entry.path[:80]!r} among its signatures")
                found.append(ApkSignature(match[1], match[2], data))
    raise RepositoryError(f"{where}: the index has no content")


def read_v2(body: bytes, where: str) -> tuple[_Table, bytes]:
    """Unpack a verified index. Raises `RepositoryError`."""
    files: dict[str, bytes] = {}
    built = 0
    limits = TarLimits(entries=1_000, file_size=_plain_limit(body))
    with blame_input(RepositoryError, f"{where}: the index"):
        for member in iter_members(BytesReader(body), limit=_plain_limit(body)):
            reader = StrictTarReader(member, limits=limits)
            for entry in reader:
                if entry.path in {"APKINDEX", "DESCRIPTION"}:
                    files[entry.path] = b"".join(map(bytes, reader.content()))
                    built = int(entry.mtime) if entry.path == "APKINDEX" else built
        if "APKINDEX" not in files:
            raise RepositoryError(f"{where}: the index has no APKINDEX")
        description = files.get("DESCRIPTION", b"")[:1_000].decode("utf-8", "replace").strip()
        table = _index(files["APKINDEX"], printable(description[:200]), len(body), where)
        return msgspec.structs.replace(table, built=max(built, 0)), files["APKINDEX"]


def read_v3(adb: Adb, size: int, where: str) -> tuple[_Table, bytes]:
    """Read a verified index of apk 3, whose file has `size` bytes. Raises `RepositoryError`."""
    from copacetic.repository.apk.v3 import read_index

    with blame_input(RepositoryError, f"{where}: the index"):
        index = read_index(adb)
        if not (index.name_pattern.isascii() and index.name_pattern.isprintable()):
            raise RepositoryError(f"{where} names packages by {index.name_pattern[:80]!r}")
        table = _index(index.text, printable(index.description[:200]), size, where)
        return msgspec.structs.replace(table, name_pattern=index.name_pattern), index.text


def _plain_limit(body: bytes) -> int:
    return min(PLAIN_LIMIT, RATIO * len(body) + SIZE_FLOOR)


def _index(text: bytes, description: str, size: int, where: str) -> _Table:
    """Note which row answers to which name. Raises `RepositoryError` when there are more than `size` bytes can hold."""
    if text.count(b"\n\n") > size // BYTES_OF_ROW + ROWS_FLOOR:
        raise RepositoryError(f"{where}: the index's {size} bytes stand for too many rows")
    starts = [0, *(match.end() for match in re.finditer(rb"\n\n", text))]
    left = size // BYTES_OF_NAME + NAMES_FLOOR
    names: dict[str, list[int]] = defaultdict(list)
    install_if: dict[str, list[int]] = defaultdict(list)
    for match in _LINE.finditer(text):
        number = bisect_right(starts, match.start()) - 1
        target = install_if if match[1] == b"i" else names
        words = match[2].split(None, left + 1) if match[1] != b"P" else [match[2]]
        left -= len(words)
        if left < 0:
            raise RepositoryError(f"{where}: the index's {size} bytes stand for too many names")
        for word in words:
            end = _NAME_END.search(word)
            name = (word[: end.start()] if end else word).decode("utf-8", "surrogateescape")
            rows = target[name]
            if not rows or rows[-1] != number:
                rows.append(number)
    return _Table(description, [*starts, len(text)], _encodable(names), _encodable(install_if))


def _encodable(rows: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Leave out names that are no UTF-8: no dependency can ask for them."""
    return {name: numbers for name, numbers in rows.items() if name.isascii() or name.isprintable()}
