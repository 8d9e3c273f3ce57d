# SPDX-License-Identifier: Apache-2.0
"""
Whether a package file is what its repository promises: its digests, whose name and version it has, and who signed it.

What a signature of the header covers is the header; the payload's digest in it, or a signature of both, covers the
rest. A package of which nothing that is signed covers the payload isn't signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum
from functools import partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from msgspec import Struct

from copacetic.errors import IntegrityError, PackageError, RepositoryError, SignatureError, blame_input
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm import tags
from copacetic.rpm.header import HeaderError
from copacetic.rpm.identity import RpmIdentity
from copacetic.rpm.package import RpmPackage
from copacetic.rpm.signature import RpmKeys, Verified
from copacetic.updates import Candidate
from copacetic.version import compare_versions

__all__ = ["OfferedPackage", "PackageVerifier", "Signing"]

_PIECE = 1 << 20
_SHA = {8: "sha256", 9: "sha384", 10: "sha512", 12: "sha3_256", 14: "sha3_512"}
"""By the numbers that OpenPGP gives them."""
_KEY_HINT = "name the key with --keyring, if you trust it"


class Signing(Enum):
    """What a package's own signature is worth."""

    REQUIRED = "required"
    SPARED = "spared"
    """The signed metadata of its repository vouches for it."""
    TOLERATED = "tolerated"
    """Looked at, and what is wrong with it is said: the user has allowed that."""


class OfferedPackage(Struct, frozen=True):
    """The `record` of a candidate: an offer, and how its file is proven."""

    offer: RpmOffer
    keys: RpmKeys
    signing: Signing


class PackageVerifier:
    """`PackageCheck` of rpm; remembers what it has found."""

    def __init__(self, *, now: datetime, modern: bool) -> None:
        self._now = now
        self._modern = modern
        self._lock = Lock()
        self._found: dict[str, dict[str, None]] = defaultdict(dict)
        """Packages by what is to be said of them."""

    def key(self, candidate: Candidate) -> str:
        checksum = _record(candidate).offer.checksum
        if checksum is None:
            raise RepositoryError(f"nothing proves what {candidate.name} {candidate.version} has to be")
        return f"rpm-{checksum.algorithm}-{checksum.hex}"

    def check(self, candidate: Candidate, path: Path) -> None:
        """Raises `IntegrityError` for a file that is another one, or signed by nobody who is trusted."""
        record = _record(candidate)
        what = f"{candidate.name} {candidate.version} from {candidate.origin.uri}"
        with path.open("rb") as file, blame_input(IntegrityError, f"{what}: the file"):
            _check_digest(record.offer, file, what)
            file.seek(0)
            try:
                package = RpmPackage.read(file)
                identity = RpmIdentity.of(package.header)
            except HeaderError as error:
                raise IntegrityError(f"{what}: the file can't be read: {error}") from error
            _check_identity(candidate, identity, what)
            _check_header(package, what)
            covered = _check_payload(package, file, what)
            if record.signing is not Signing.SPARED:
                self._check_signature(record, package, file, covered=covered, what=what, name=candidate.name)

    def _check_signature(
        self, record: OfferedPackage, package: RpmPackage, file: BinaryIO, *, covered: bool, what: str, name: str
    ) -> None:
        try:
            verified = self._verify(record.keys, package, file, covered=covered, what=what)
        except SignatureError as error:
            if record.signing is not Signing.TOLERATED:
                raise IntegrityError(str(error), hint=_KEY_HINT) from error
            self._note("not verified, which --allow-unsigned-repository allows", name)
            return
        kind = f"verified by RSA alone, as pysequoia refuses them ({verified.objection})" if verified.objection else ""
        self._note(kind or "verified", name)

    def _verify(self, keys: RpmKeys, package: RpmPackage, file: BinaryIO, *, covered: bool, what: str) -> Verified:
        header = _signatures(package, (tags.OPENPGP, tags.RSA_HEADER, tags.DSA_HEADER))
        whole = _signatures(package, (tags.SIG_PGP, tags.SIG_GPG))
        if not header and not whole:
            raise SignatureError(f"{what} is not signed")
        verified: Verified | None = None
        if header:
            signed = package.header.signed_bytes
            verified = keys.verify(header, lambda: [signed], what, now=self._now, modern=self._modern)
        if verified is not None and covered:
            return verified
        if not whole:
            raise SignatureError(f"{what}: nothing that is signed covers its payload")
        content = partial(_from, file, package.header_start)
        return keys.verify(whole, content, what, now=self._now, modern=self._modern)

    def _note(self, kind: str, name: str) -> None:
        with self._lock:
            self._found[kind][name] = None

    def remarks(self) -> tuple[str, ...]:
        """Return what is to be said of the packages that were checked so far."""
        with self._lock:
            found = {kind: sorted(names) for kind, names in self._found.items()}
        remarks = []
        for kind, names in sorted(found.items()):
            shown = f": {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if kind != "verified" else ""
            remarks.append(f"signatures of {len(names)} package{'s' * (len(names) != 1)} {kind}{shown}")
        return tuple(remarks)


def _record(candidate: Candidate) -> OfferedPackage:
    record = candidate.record
    assert isinstance(record, OfferedPackage)
    return record


def _from(file: BinaryIO, start: int) -> Iterator[bytes]:
    file.seek(start)
    while part := file.read(_PIECE):
        yield part


def _digest(name: str, parts: Iterable[bytes]) -> str:
    digest = hashlib.new(name)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _check_digest(offer: RpmOffer, file: BinaryIO, what: str) -> None:
    """SHA-256 is checked by whoever has fetched the file."""
    checksum = offer.checksum
    if checksum is not None and checksum.algorithm != "sha256":
        found = _digest(checksum.algorithm, _from(file, 0))
        if found != checksum.hex:
            raise IntegrityError(f"{what}: expected the {checksum.algorithm.upper()} {checksum.hex}, got {found}")


def _check_identity(candidate: Candidate, identity: RpmIdentity, what: str) -> None:
    same = identity.name == candidate.name and identity.architecture == candidate.architecture
    if not same or compare_versions("rpm", identity.evr, candidate.version) != 0:
        raise PackageError(f"{what}: the file is {identity}")


def _check_header(package: RpmPackage, what: str) -> None:
    for tag, name in ((tags.SHA256_HEADER, "sha256"), (tags.SHA1_HEADER, "sha1")):
        expected = package.signature.text(tag)
        if expected and _digest(name, [package.header.signed_bytes]) != expected.lower():
            raise IntegrityError(f"{what}: its header has another {name.upper()} than it says")


def _check_payload(package: RpmPackage, file: BinaryIO, what: str) -> bool:
    """Tell whether the header says what the payload has to be; it is that then."""
    expected = package.header.text(tags.PAYLOAD_DIGEST)
    name = _SHA.get(package.header.number(tags.PAYLOAD_DIGEST_ALGORITHM) or 0, "")
    if not expected or not name:
        return False
    found = _digest(name, _from(file, package.payload_start))
    if found != expected.lower():
        raise IntegrityError(f"{what}: its payload has another {name.upper()} than its header says")
    return True


def _signatures(package: RpmPackage, numbers: Iterable[int]) -> list[bytes]:
    """Newer packages have any number of them in base64, one of post-quantum cryptography among them."""
    found: list[bytes] = []
    for tag in numbers:
        if tag == tags.OPENPGP:
            found += [_decoded(text) for text in package.signature.texts(tag)]
        elif package.signature.binary(tag):
            found.append(package.signature.binary(tag))
    return [signature for signature in found if signature]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""
