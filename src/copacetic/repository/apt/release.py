# SPDX-License-Identifier: Apache-2.0
"""
Release files: fetched conditionally, verified, and checked for their dates (Debian's repository format).

What is kept in the cache is the answer as it came; it is verified again whenever it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from copacetic.cache import Bucket
from copacetic.deb822 import Deb822Error, Stanza, parse_stanza
from copacetic.errors import ExpiredRepositoryError, RepositoryError, SignatureError
from copacetic.http import HttpClient
from copacetic.repository.apt.keys import Keyring
from copacetic.repository.apt.sources import AptSource
from copacetic.repository.conditional import fetch_conditionally

RELEASE_LIMIT = 32 * 1024 * 1024
_CLOCK_SKEW = timedelta(hours=24)
_ROW = re.compile(r"([0-9a-f]{64}) +(\d{1,15}) +(\S{1,500})")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A file that a Release lists."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A suite's verified description."""

    source: AptSource
    stanza: Stanza
    files: Mapping[str, IndexFile]
    by_hash: bool
    signed_by: str
    """Empty when no signature was required."""

    def field(self, name: str) -> str:
        return self.stanza.find(name)

    @property
    def not_automatic(self) -> bool:
        return self.field("NotAutomatic") == "yes"

    @property
    def but_automatic_upgrades(self) -> bool:
        return self.field("ButAutomaticUpgrades") == "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePolicy:
    """What the user has allowed, and the time."""

    now: datetime
    allow_expired: bool = False
    allow_unsigned: bool = False


def fetch_release(
    source: AptSource, http: HttpClient, bucket: Bucket, keyring: Keyring, policy: ReleasePolicy
) -> Release:
    """Fetch and verify a suite's Release. Raises `RepositoryError` or one of its kinds."""
    unsigned_is_fine = source.trusted or policy.allow_unsigned
    body = fetch_conditionally(f"{source.release_url}/InRelease", http, bucket, limit=RELEASE_LIMIT)
    if body is not None and not unsigned_is_fine:
        signed = keyring.verify(source, body, None, now=policy.now, allow_expired=policy.allow_expired)
        return _parse(source, signed.data, signed.fingerprint, policy)
    if body is not None:
        return _parse(source, _without_signature(body), "", policy)
    body = fetch_conditionally(f"{source.release_url}/Release", http, bucket, limit=RELEASE_LIMIT)
    if body is None:
        raise RepositoryError(f"{source.shown_uri} {source.suite} has no Release file ({source.defined_in})")
    if unsigned_is_fine:
        return _parse(source, body, "", policy)
    signature = fetch_conditionally(f"{source.release_url}/Release.gpg", http, bucket, limit=RELEASE_LIMIT)
    if signature is None:
        raise SignatureError(f"{source.shown_uri} {source.suite} is not signed ({source.defined_in})")
    signed = keyring.verify(source, body, signature, now=policy.now, allow_expired=policy.allow_expired)
    return _parse(source, signed.data, signed.fingerprint, policy)


def _without_signature(body: bytes) -> bytes:
    """Return the text of a cleartext-signed message that nobody wants verified."""
    text = body.replace(b"\r\n", b"\n")
    if not text.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        return text
    inner = text.partition(b"\n\n")[2].partition(b"\n-----BEGIN PGP SIGNATURE-----")[0]
    return b"\n".join(line.removeprefix(b"- ") for line in inner.split(b"\n"))


def _parse(source: AptSource, data: bytes, fingerprint: str, policy: ReleasePolicy) -> Release:
    where = f"{source.shown_uri} {source.suite}"
    try:
        stanza = parse_stanza(data.decode("utf-8", "replace"))
    except Deb822Error as error:
        raise RepositoryError(f"{where}: a broken Release file: {error}") from error
    _check_dates(source, stanza, where, policy)
    files = {}
    for line in stanza.find("SHA256").split("\n"):
        match = _ROW.fullmatch(line.strip())
        if match is not None:
            files[match[3]] = IndexFile(path=match[3], size=int(match[2]), sha256=match[1])
    if not files:
        raise RepositoryError(f"{where}: the Release file lists nothing with SHA-256")
    by_hash = stanza.find("Acquire-By-Hash") == "yes" if source.by_hash is None else source.by_hash
    return Release(source=source, stanza=stanza, files=files, by_hash=by_hash, signed_by=fingerprint)


def _check_dates(source: AptSource, stanza: Stanza, where: str, policy: ReleasePolicy) -> None:
    date, until = _date(stanza.find("Date")), _date(stanza.find("Valid-Until"))
    if date is not None and date > policy.now + _CLOCK_SKEW:
        raise RepositoryError(f"{where} is from the future ({date:%Y-%m-%d %H:%M}): check this machine's clock")
    expired = until is not None and until < policy.now
    if expired and source.check_valid_until and not policy.allow_expired:
        raise ExpiredRepositoryError(f"{where} has expired on {until:%Y-%m-%d}")


def _date(text: str) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
