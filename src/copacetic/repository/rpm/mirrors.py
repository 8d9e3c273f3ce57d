# SPDX-License-Identifier: Apache-2.0
"""Lists of mirrors, and metalinks, which also say what repomd.xml has to be."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from msgspec import Struct

from copacetic.errors import RepositoryError, blame_input
from copacetic.lines import split_lines
from copacetic.repository.address import is_plain_address
from copacetic.repository.rpm.repomd import find_checksum
from copacetic.repository.rpm.xmlreader import XmlError, read_xml
from copacetic.strict import read_digits

__all__ = ["LIST_LIMIT", "MirrorList", "parse_mirrors"]

LIST_LIMIT = 4 * 1024 * 1024
_MAX_MIRRORS = 30
"""Of which the first that answer are used."""
_MAX_CHECKSUMS = 20
_MAX_LISTED = 2_000
_REPOMD = "/repodata/repomd.xml"


class MirrorList(Struct, frozen=True, kw_only=True):
    """Where a repository is."""

    urls: tuple[str, ...]
    """Without final slashes, the preferred first."""
    checksums: tuple[tuple[str, str], ...] = ()
    """Of every repomd.xml that may be there (`hashlib`'s name, digest): the newest and some before it. Empty: any."""


def parse_mirrors(body: bytes, where: str, variables: Mapping[str, str]) -> MirrorList:
    """Read either kind. Raises `RepositoryError` when nothing in it can be used."""
    with blame_input(RepositoryError, where):
        is_metalink = body.lstrip()[:1] == b"<"
        found = _metalink(body, where) if is_metalink else MirrorList(urls=tuple(_plain(body, variables)))
    if not found.urls:
        raise RepositoryError(f"{where} lists no address of http or https")
    return found


def _plain(body: bytes, variables: Mapping[str, str]) -> list[str]:
    urls: dict[str, None] = {}
    for raw in split_lines(body.decode("utf-8", "replace"))[:1_000]:
        line = raw.strip()
        # As for dnf, variables may stand in a list, too.
        line = re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), line)[:2_000]
        if line and not line.startswith("#") and is_plain_address(line) and "$" not in line:
            urls.setdefault(line.rstrip("/"))
        if len(urls) == _MAX_MIRRORS:
            break
    return list(urls)


class _Metalink:
    """Gathers addresses and digests."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.checksums: list[tuple[str, str]] = []
        self._urls: list[tuple[int, str]] = []
        self._open: Mapping[str, str] = {}

    def start(self, path: str, attributes: Mapping[str, str]) -> None:
        if path == "/metalink/files/file":
            self.names.append(attributes.get("name", ""))
        self._open = dict(attributes)

    def end(self, path: str, text: str) -> None:
        if path.endswith("/hash"):
            checksum = find_checksum(self._open.get("type", ""), text)
            if checksum is not None and len(self.checksums) < _MAX_CHECKSUMS:
                self.checksums.append(checksum)
        elif path == "/metalink/files/file/resources/url":
            url = text.strip()
            if url.endswith(_REPOMD) and is_plain_address(url) and len(self._urls) < _MAX_LISTED:
                preference = read_digits(self._open.get("preference", ""), most=9) or 0
                self._urls.append((-preference, url.removesuffix(_REPOMD)))

    @property
    def urls(self) -> tuple[str, ...]:
        """The preferred first, and of equals as they are listed."""
        return tuple(dict.fromkeys(url for _, url in sorted(self._urls, key=lambda one: one[0])))[:_MAX_MIRRORS]


def _metalink(body: bytes, where: str) -> MirrorList:
    found = _Metalink()
    try:
        read_xml(io.BytesIO(body), found.start, found.end)
    except XmlError as error:
        raise RepositoryError(f"{where} can't be read: {error}") from error
    if found.names != ["repomd.xml"]:
        raise RepositoryError(f"{where} is no metalink of a repomd.xml")
    if not found.checksums:
        raise RepositoryError(f"{where} gives no digest that proves a repomd.xml")
    return MirrorList(urls=found.urls, checksums=tuple(found.checksums))
