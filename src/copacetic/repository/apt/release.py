# SPDX-License-Identifier: Apache-2.0
"""
Release files: fetched conditionally, verified, and checked for their dates (Debian's repository format).

What is kept in the cache is the answer as it came; it is verified again whenever it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct
from msgspec.structs import replace

from copacetic.cache import Bucket
from copacetic.deb.deb822 import Deb822Error, Stanza, parse_stanza
from copacetic.errors import ExpiredRepositoryError, RepositoryError, SignatureError
from copacetic.http import HttpClient
from copacetic.repository.apt.keys import AptKeyring, Signed
from copacetic.repository.apt.sources import AptSource
from copacetic.repository.conditional import fetch_conditionally, recall_answer
from copacetic.repository.seen import CLOCK_SKEW, SeenDates

RELEASE_LIMIT = 32 * 1024 * 1024
_UNSIGNED = "--allow-unsigned-repository"
_EXPIRED = "--allow-expired-repository"
_ROW = re.compile(r"([0-9a-f]{64}) +([0-9]{1,15}) +(\S{1,500})")


class IndexFile(Struct, frozen=True, kw_only=True):
    """A file that a Release lists."""

    path: str
    size: int
    sha256: str


class Release(Struct, frozen=True, kw_only=True):
    """A suite's verified description."""

    source: AptSource
    stanza: Stanza
    files: Mapping[str, IndexFile]
    by_hash: bool
    signed_by: str
    """Empty when no signature by a trusted key was found, and somebody allowed that."""
    sha256: str
    """Of the file as it came."""
    not_verified: str = ""
    """What is wrong with it all the same, and who allowed that."""

    def field(self, name: str) -> str:
        return self.stanza.find(name)

    @property
    def not_automatic(self) -> bool:
        return self.field("NotAutomatic") == "yes"

    @property
    def but_automatic_upgrades(self) -> bool:
        return self.field("ButAutomaticUpgrades") == "yes"


class ReleasePolicy(Struct, frozen=True, kw_only=True):
    """What the user has allowed, and the time."""

    now: datetime
    allow_expired: bool = False
    allow_unsigned: bool = False


def fetch_release(
    source: AptSource, http: HttpClient, bucket: Bucket, keyring: AptKeyring, policy: ReleasePolicy, seen: SeenDates
) -> Release:
    """Fetch and verify a suite's Release. Raises `RepositoryError` or one of its kinds."""
    found = fetch_conditionally(f"{source.release_url}/InRelease", http, bucket, limit=RELEASE_LIMIT)
    signature = None
    if found is None:
        found = fetch_conditionally(f"{source.release_url}/Release", http, bucket, limit=RELEASE_LIMIT)
        if found is None:
            raise RepositoryError(f"{source.shown_uri} {source.suite} has no Release file ({source.defined_in})")
        detached = fetch_conditionally(f"{source.release_url}/Release.gpg", http, bucket, limit=RELEASE_LIMIT)
        signature = detached.body if detached is not None else b""
        if bucket.read(_signature_key(found.sha256)) != signature:
            bucket.write(_signature_key(found.sha256), signature)
    signed = _verify(source, found.body, signature, keyring, policy)
    release = parse_release(source, signed, found.sha256)
    doubts = [signed.not_verified, _check_dates(release, policy)]
    if signed.fingerprint:  # otherwise nobody vouches for its date
        date, where = _date(release.field("Date")), f"{source.shown_uri} {source.suite}"
        doubts.append(seen.hold(where, date, key=signed.fingerprint, trusted=signed.trusted))
    return replace(release, not_verified="; ".join(filter(None, doubts)))


def recall_release(
    source: AptSource, sha256: str, bucket: Bucket, keyring: AptKeyring, policy: ReleasePolicy
) -> Release | None:
    """
    Return a Release that was fetched before, by the digest of its file, when it is still there and a key that is
    trusted now has signed it. That it has expired since then is said, and refuses nothing: a plan asks for it.
    """
    found = recall_answer(bucket, sha256)
    if found is None:
        return None
    try:
        signed = _verify(source, found.body, bucket.read(_signature_key(sha256)), keyring, policy)
        release = parse_release(source, signed, sha256)
        doubts = [signed.not_verified, _check_dates(release, policy, otherwise="allowed by --plan, which names it")]
        return replace(release, not_verified="; ".join(filter(None, doubts)))
    except RepositoryError:
        return None


def _signature_key(sha256: str) -> str:
    return f"{sha256}.signature"


def _verify(
    source: AptSource, body: bytes, signature: bytes | None, keyring: AptKeyring, policy: ReleasePolicy
) -> Signed:
    """
    Return what a trusted key has signed; what none has only where the user allows that, and with the reason.

    `signature` is None for an InRelease, and empty for a Release without one.
    """
    try:
        _refuse_unsigned(source, signed=signature != b"")
        return keyring.verify(source, body, signature, now=policy.now, allow_expired=policy.allow_expired)
    except (SignatureError, ExpiredRepositoryError) as error:
        leave = _leave(policy.allow_unsigned, _UNSIGNED, by_user=source.by_user and bool(source.trusted))
        if leave:
            return Signed(_without_signature(body) if signature is None else body, "", f"{error}: {leave}")
        if source.trusted and isinstance(error, SignatureError):
            hint = f"{error.hint}; {_UNSIGNED} uses it as it is (trusted=yes in an image is not enough)"
            raise SignatureError(str(error), hint=hint) from error
        raise


def _refuse_unsigned(source: AptSource, *, signed: bool) -> None:
    where = f"{source.shown_uri} {source.suite}"
    if source.trusted is False:
        raise SignatureError(f"{where} is not to be trusted, says {source.defined_in} (trusted=no)")
    if not signed:
        raise SignatureError(f"{where} is not signed ({source.defined_in})")


def _leave(flag: bool, name: str, *, by_user: bool) -> str:
    """Say who allows something; empty: nobody."""
    return f"allowed by {name}" if flag else "allowed by what --repository says" if by_user else ""


def _without_signature(body: bytes) -> bytes:
    """Return the text of a cleartext-signed message that nobody wants verified."""
    text = body.replace(b"\r\n", b"\n")
    if not text.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        return text
    inner = text.partition(b"\n\n")[2].partition(b"\n-----BEGIN PGP SIGNATURE-----")[0]
    return b"\n".join(line.removeprefix(b"- ") for line in inner.split(b"\n"))


def parse_release(source: AptSource, signed: Signed, sha256: str) -> Release:
    """Read the text of a Release. Raises `RepositoryError`."""
    where = f"{source.shown_uri} {source.suite}"
    try:
        stanza = parse_stanza(signed.data.decode("utf-8", "replace"))
    except Deb822Error as error:
        raise RepositoryError(f"{where}: a broken Release file: {error}") from error
    files = {}
    for line in stanza.find("SHA256").split("\n"):
        match = _ROW.fullmatch(line.strip())
        if match is not None:
            files[match[3]] = IndexFile(path=match[3], size=int(match[2]), sha256=match[1])
    if not files:
        raise RepositoryError(f"{where}: the Release file lists nothing with SHA-256")
    by_hash = stanza.find("Acquire-By-Hash") == "yes" if source.by_hash is None else source.by_hash
    return Release(
        source=source,
        stanza=stanza,
        files=files,
        by_hash=by_hash,
        signed_by=signed.fingerprint,
        sha256=sha256,
    )


def _check_dates(release: Release, policy: ReleasePolicy, *, otherwise: str = "") -> str:
    """Return that it has expired, and who allows that (`otherwise`, when nobody else does), or nothing."""
    source = release.source
    where = f"{source.shown_uri} {source.suite}"
    date, until = _date(release.field("Date")), _date(release.field("Valid-Until"))
    if date is not None and date > policy.now + CLOCK_SKEW:
        raise RepositoryError(f"{where} is from the future ({date:%Y-%m-%d %H:%M}): check this machine's clock")
    if until is None or until >= policy.now:
        return ""
    message = f"{where} has expired on {until:%Y-%m-%d}"
    leave = _leave(policy.allow_expired, _EXPIRED, by_user=source.by_user and not source.check_valid_until)
    leave = leave or otherwise
    if not leave:
        told = " (Check-Valid-Until in an image is not enough)" if not source.check_valid_until else ""
        raise ExpiredRepositoryError(message, hint=f"{ExpiredRepositoryError.hint}{told}")
    return f"{message}: {leave}"


def _date(text: str) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
