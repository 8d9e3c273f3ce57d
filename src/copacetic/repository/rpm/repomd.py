# SPDX-License-Identifier: Apache-2.0
"""repomd.xml: what a repository consists of, by sizes and digests."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from msgspec import Struct

from copacetic.errors import RepositoryError, blame_input
from copacetic.repository.rpm.xmlreader import XmlError, read_xml
from copacetic.strict import read_digits

__all__ = ["CHECKSUMS", "MetadataFile", "Repomd", "find_checksum", "is_location", "join_location", "parse_repomd"]

REPOMD_LIMIT = 4 * 1024 * 1024
_MAX_FILES = 200
CHECKSUMS: Mapping[str, tuple[str, int]] = {
    "sha256": ("sha256", 64),
    "sha384": ("sha384", 96),
    "sha512": ("sha512", 128),
}
"""What proves a file to anybody: names in metadata, with `hashlib`'s and the number of digits."""
_WEAK = {"sha": ("sha1", 40), "sha1": ("sha1", 40), "sha224": ("sha224", 56)}
"""What old repositories have: a forger would need a second preimage, not a collision. MD5 proves nothing."""
_HEX = re.compile(r"[0-9a-f]+")
_LOCATION = re.compile(r"[^\x00-\x20\x7f?#\\%]{1,500}")
_TEXTS = frozenset(f"/repomd/data/{name}" for name in ("checksum", "size", "open-size", "timestamp"))
_MIN_TIME, _MAX_TIME = 946_684_800, 221_845_392_000


class MetadataFile(Struct, frozen=True, kw_only=True):
    """One file of metadata."""

    kind: str
    """primary, filelists, updateinfo, modules, …"""
    location: str
    """Below the repository's address."""
    checksum: tuple[str, str]
    """hashlib's name and the digest in hexadecimal."""
    size: int | None
    open_size: int | None


class Repomd(Struct, frozen=True, kw_only=True):
    """What a repomd.xml lists."""

    files: Mapping[str, MetadataFile]
    date: datetime | None

    def file(self, kind: str) -> MetadataFile | None:
        return self.files.get(kind)


def find_checksum(kind: str, text: str, *, weak: bool = False) -> tuple[str, str] | None:
    """Return hashlib's name and the digest; None for what isn't one, or proves nothing."""
    name, digits = {**(_WEAK if weak else {}), **CHECKSUMS}.get(kind.lower(), ("", 0))
    value = text.strip().lower()
    return (name, value) if name and len(value) == digits and _HEX.fullmatch(value) else None


def is_location(text: str) -> bool:
    """Tell whether it is a relative path, and nothing that means something else in an address."""
    first = text.partition("/")[0]
    return bool(_LOCATION.fullmatch(text)) and first != "" and ":" not in first


def join_location(url: str, location: str) -> str:
    """
    Return where something is that a repository at an address has; it may lead out of the repository, as Amazon's do,
    and not to another host.
    """
    host, slash, path = url.removesuffix("/").partition("://")[2].partition("/")
    parts = path.split("/") if slash else []
    for part in location.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(quote(part, safe="~:=@,"))  # not "+", which storages like S3 take for a blank
    return "/".join((f"{url.partition('://')[0]}://{host}", *parts))


class _Reader:
    """Gathers what is listed."""

    def __init__(self) -> None:
        self.files: dict[str, MetadataFile] = {}
        self.revision = ""
        self.newest = 0
        self._values: dict[str, str] = {}

    def start(self, path: str, attributes: Mapping[str, str]) -> None:
        if path == "/repomd/data":
            self._values = {"kind": attributes.get("type", "")}
        elif path == "/repomd/data/location":
            self._values["href"] = attributes.get("href", "")
            self._values["base"] = attributes.get("xml:base", "")
        elif path == "/repomd/data/checksum":
            self._values["algorithm"] = attributes.get("type", "")

    def end(self, path: str, text: str) -> None:
        if path == "/repomd/revision":
            self.revision = text.strip()[:100]
        elif path == "/repomd/data":
            found = _file(self._values)
            if found is not None and len(self.files) < _MAX_FILES:
                self.files.setdefault(found.kind, found)
            time = read_digits(self._values.get("timestamp", "").partition(".")[0], most=12) or 0
            self.newest = max(self.newest, time)
        elif path in _TEXTS:
            self._values[path.rpartition("/")[2]] = text.strip()[:1_000]


def parse_repomd(body: bytes, where: str) -> Repomd:
    """Raises `RepositoryError` for what isn't a repomd.xml, or lists no primary metadata that can be checked."""
    reader = _Reader()
    with blame_input(RepositoryError, f"{where}: repomd.xml"):
        try:
            read_xml(io.BytesIO(body), reader.start, reader.end)
        except XmlError as error:
            raise RepositoryError(f"{where}: repomd.xml can't be read: {error}") from error
    if "primary" not in reader.files:
        raise RepositoryError(f"{where}: repomd.xml lists no primary metadata with a digest that proves it")
    newest = reader.newest or read_digits(reader.revision, most=12) or 0
    date = datetime.fromtimestamp(newest, UTC) if _MIN_TIME < newest < _MAX_TIME else None
    return Repomd(files=reader.files, date=date)


def _file(values: Mapping[str, str]) -> MetadataFile | None:
    checksum = find_checksum(values.get("algorithm", ""), values.get("checksum", ""), weak=True)
    location = values.get("href", "")
    if checksum is None or not is_location(location) or ".." in location.split("/") or values.get("base"):
        return None
    return MetadataFile(
        kind=values["kind"][:100],
        location=location,
        checksum=checksum,
        size=read_digits(values.get("size", ""), most=12),
        open_size=read_digits(values.get("open-size", ""), most=12),
    )
