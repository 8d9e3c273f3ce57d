# SPDX-License-Identifier: Apache-2.0
"""
Whether a key that is trusted has signed something, for packages and metadata.

`pysequoia` goes first, with its policy of today. What that refuses although the signature is right (version 3, as EL 7
and SUSE make them, keys that bind themselves by SHA-1 or without flags) the strict check of `openpgp` may still accept:
the result says so, and the user may forbid it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from copacetic.errors import SignatureError
from copacetic.rpm.openpgp import OpenPgpError, RsaKey, RsaSignature, dearmor, is_right, read_keys, read_signatures

__all__ = ["MODERN_FLAG", "RpmKeys", "Verified"]

MODERN_FLAG = "--require-modern-signatures"
_MAX_SIGNATURES = 16

Content = Callable[[], Iterable[bytes]]
"""Gives what was signed, in parts, as often as it is asked for."""


class Verified(Struct, frozen=True):
    """A trusted key's word."""

    fingerprint: str
    """Of its certificate, upper case."""
    objection: str = ""
    """What `pysequoia` has against it; the strict check alone found it right. Empty for what both would accept."""
    expired: datetime | None = None
    """When the key's time ended, if it has: it did sign before that."""


class RpmKeys:
    """The keys that are trusted for one purpose."""

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        """`files` are their contents by what to call them: packets, or any number of armored blocks."""
        self.unreadable: list[str] = []
        """Files that hold no keys."""
        self._certs: list[Any] = []
        self._by_id: dict[bytes, list[RsaKey]] = {}
        self._fingerprints: set[str] = set()
        for where, data in files:
            self._add(where, data)

    @property
    def fingerprints(self) -> frozenset[str]:
        """Of the certificates, upper case."""
        return frozenset(self._fingerprints)

    def _add(self, where: str, data: bytes) -> None:
        from pysequoia import Cert

        keys: list[RsaKey] = []
        packets = data
        with suppress(OpenPgpError):
            packets = dearmor(data)
            keys = read_keys(packets)
        for key in keys:
            self._by_id.setdefault(key.key_id, []).append(key)
            self._fingerprints.add(key.owner)
        try:
            certs = list(Cert.split_bytes(packets))
        except Exception:  # noqa: BLE001 - its exceptions have no type of their own; the strict check may know more
            certs = []
        self._certs += certs
        self._fingerprints.update(str(cert.fingerprint).upper() for cert in certs)
        if not certs and not keys:
            self.unreadable.append(where)

    def verify(
        self, signatures: Sequence[bytes], content: Content, where: str, *, now: datetime, modern: bool = False
    ) -> Verified:
        """
        Return who has signed: of several signatures one that is right is enough. `modern` forbids the strict check.

        Raises `SignatureError`.
        """
        if not self._fingerprints:
            raise SignatureError(f"{where} is signed, and no key is trusted for it")
        reasons: list[str] = []
        for signature in signatures[:_MAX_SIGNATURES]:
            try:
                binary = dearmor(signature)
            except OpenPgpError as error:
                reasons.append(str(error))
                continue
            try:
                return self._verify_modern(binary, content, now)
            except _RefusedError as error:
                reasons.append(str(error))
                if error.final:
                    continue
            try:
                return self._verify_strictly(binary, content, reasons[-1], now, modern=modern)
            except (OpenPgpError, _RefusedError) as error:
                if str(error) not in reasons:
                    reasons.append(str(error))
        raise SignatureError(f"{where} is signed by no key that is trusted for it ({'; '.join(reasons[:4])})")

    def _verify_modern(self, signature: bytes, content: Content, now: datetime) -> Verified:
        from pysequoia import Sig, verify

        if signature[:1] and _version(signature) == 3:
            raise _RefusedError("signatures of version 3 are not considered secure")  # without reading all of it
        try:
            result = verify(bytes=b"".join(content()), store=lambda _: self._certs, signature=Sig.from_bytes(signature))
            valid = list(result.valid_sigs)
        except Exception as error:
            raise _RefusedError(str(error).strip().partition("\n")[0][:200]) from error
        for one in valid:
            fingerprint = str(one.certificate).upper()
            for cert in self._certs:
                if str(cert.fingerprint).upper() != fingerprint:
                    continue
                if _is_revoked(cert):
                    raise _RefusedError(f"the key {fingerprint} is revoked", final=True)
                return Verified(fingerprint, "", _ended(cert, now))
        raise _RefusedError("no valid signature")

    def _verify_strictly(
        self, packets: bytes, content: Content, objection: str, now: datetime, *, modern: bool
    ) -> Verified:
        problem = ""
        for signature in read_signatures(packets)[:_MAX_SIGNATURES]:
            for key in self._by_id.get(signature.key_id, ()):
                if not is_right(signature, key, content()):
                    problem = f"the signature by {key.owner} is wrong"
                    continue
                problem = _refuse(signature, key, now)
                if problem:
                    continue
                if modern:
                    raise _RefusedError(f"right by RSA alone, which {MODERN_FLAG} forbids")
                ended = key.ends is not None and key.ends < now.timestamp()
                expired = datetime.fromtimestamp(key.ends, UTC) if ended and key.ends is not None else None
                return Verified(key.owner, objection, expired)
            problem = problem or f"the key {signature.key_id.hex().upper()} is not among them"
        raise _RefusedError(problem)


class _RefusedError(Exception):
    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final
        """Whether no other check may accept it."""


def _refuse(signature: RsaSignature, key: RsaKey, now: datetime) -> str:
    """Return why a signature that is right doesn't count."""
    if key.revoked:
        return f"the key {key.owner} is revoked"
    if key.ends is not None and signature.created > key.ends:
        return f"the key {key.owner} had expired when it signed"
    if signature.ends is not None and signature.ends < now.timestamp():
        return "the signature has expired"
    return ""


def _version(packets: bytes) -> int:
    """Return the version of the first packet, 0 where that can't be told."""
    head = packets[0]
    if head & 0x40:
        first = packets[1] if len(packets) > 1 else 0
        at = 2 if first < 192 else 6 if first == 255 else 3
    else:
        at = 1 + (1 << (head & 3))
    return packets[at] if at < len(packets) else 0


def _is_revoked(cert: Any) -> bool:
    try:
        return bool(cert.is_revoked)
    except Exception:  # noqa: BLE001 - what can't be told isn't so
        return False


def _ended(cert: Any, now: datetime) -> datetime | None:
    try:
        expiration: datetime | None = cert.expiration
    except Exception:  # noqa: BLE001 - bound by what isn't trusted any more, so nothing is known of an end
        return None
    return expiration if expiration is not None and expiration < now else None
