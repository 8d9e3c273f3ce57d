# SPDX-License-Identifier: Apache-2.0
"""
OpenPGP by the letter, for what a library with a policy refuses: RSA signatures of versions 3 and 4.

A key counts because the image or the user trusts its file; what it says of itself only makes it count for less (an
end, a revocation). Accepted are RSA keys of 2048 bits and more with SHA-2, and binary signatures; nothing else is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

__all__ = ["OpenPgpError", "RsaKey", "RsaSignature", "dearmor", "is_right", "read_keys", "read_signatures"]

MIN_KEY_BITS = 2048
MAX_KEY_BITS = 16_384
_MAX_PACKETS = 20_000
_HASHES = {8: "sha256", 9: "sha384", 10: "sha512"}
_RSA = frozenset({1, 3})
_SIGNATURE, _KEY, _SUBKEY = 2, 6, 14
_BINDINGS = frozenset({0x10, 0x11, 0x12, 0x13, 0x18, 0x1F})
_REVOCATIONS = frozenset({0x20, 0x28})
_CREATED, _EXPIRES, _KEY_EXPIRES, _ISSUER, _ISSUER_FINGERPRINT = 2, 3, 9, 16, 33
_HARMLESS = frozenset({_CREATED, _EXPIRES, 4, 7, _KEY_EXPIRES, 11, _ISSUER, 21, 22, 23, 25, 26, 27, 28, 30, 33, 34, 35})
"""Subpackets that may be critical: they are obeyed, or say nothing about a signature of a file."""
_BEGIN = re.compile(rb"-----BEGIN PGP [A-Z ,/0-9]{1,40}-----\r?\n")
_END = b"-----END PGP "


class OpenPgpError(ValueError):
    """Bytes that are no OpenPGP, or of a kind that isn't understood here."""


class RsaKey(Struct, frozen=True, kw_only=True):
    """A key that may have made signatures."""

    owner: str
    """The fingerprint of the certificate that it belongs to, upper case."""
    key_id: bytes
    modulus: int
    exponent: int
    ends: int | None
    """In seconds since 1970; None for never."""
    revoked: bool


class RsaSignature(Struct, frozen=True, kw_only=True):
    """A signature of a file."""

    key_id: bytes
    hash_name: str
    created: int
    ends: int | None
    trailer: bytes
    """What is digested after the file."""
    value: bytes


def dearmor(data: bytes) -> bytes:
    """Return the packets of all blocks of armored text; other bytes are packets already. Raises `OpenPgpError`."""
    if not data.lstrip().startswith(b"-----") and b"-----BEGIN PGP " not in data[:65_536]:
        return data
    blocks = []
    end = 0
    while (match := _BEGIN.search(data, end)) is not None:
        end = data.find(_END, match.end())
        if end < 0:
            break
        lines = data[match.end() : end].replace(b"\r", b"").split(b"\n")
        start = lines.index(b"") + 1 if b"" in lines[:20] else 0
        body = b"".join(line.strip() for line in lines[start:] if not line.startswith(b"="))
        try:
            blocks.append(base64.b64decode(body, validate=True))
        except binascii.Error as error:
            raise OpenPgpError(f"broken armor: {error}") from error
    if not blocks:
        raise OpenPgpError("armor without an end")
    return b"".join(blocks)


def read_keys(data: bytes) -> list[RsaKey]:
    """Return the RSA keys and subkeys of certificates. Raises `OpenPgpError`."""
    found: list[tuple[str, bytes, bytes, list[_Fields]]] = []
    owner = ""
    for tag, body in _packets(data):
        if tag in {_KEY, _SUBKEY} and body[:1] == b"\x04":
            digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).digest()  # noqa: S324 - the format's
            owner = digest.hex().upper() if tag == _KEY else owner
            found.append((owner, digest[-8:], body, []))
        elif tag in {_KEY, _SUBKEY}:
            owner = ""
            found.append((owner, b"", b"", []))
        elif tag == _SIGNATURE and found and body[:1] == b"\x04":
            found[-1][3].append(_Fields.read(body, of_file=False))
    revoked = {one[0] for one in found if any(claim.kind == 0x20 for claim in one[3])}
    return [
        _make_key(one, body, key_id, claims, revoked=one in revoked)
        for one, key_id, body, claims in found
        if one and len(body) > 5 and body[5] in _RSA
    ]


def _make_key(owner: str, body: bytes, key_id: bytes, claims: list[_Fields], *, revoked: bool) -> RsaKey:
    modulus, at = _number(body, 6)
    exponent, _ = _number(body, at)
    bindings = [claim for claim in claims if claim.kind in _BINDINGS]
    newest = max(bindings, key=lambda claim: claim.number(_CREATED) or 0, default=None)
    lasts = newest.number(_KEY_EXPIRES) if newest is not None else None
    return RsaKey(
        owner=owner,
        key_id=key_id,
        modulus=int.from_bytes(modulus, "big"),
        exponent=int.from_bytes(exponent, "big"),
        ends=int.from_bytes(body[1:5], "big") + lasts if lasts else None,
        revoked=revoked or any(claim.kind in _REVOCATIONS for claim in claims),
    )


def read_signatures(data: bytes) -> list[RsaSignature]:
    """Return the signatures that are understood; raises `OpenPgpError` with what is wrong when none is."""
    found: list[RsaSignature] = []
    reason = "no signature"
    for tag, body in _packets(data):
        if tag != _SIGNATURE:
            continue
        try:
            found.append(_read_v3(body) if body[:1] == b"\x03" else _read_v4(body))
        except OpenPgpError as error:
            reason = str(error)
    if not found:
        raise OpenPgpError(reason)
    return found


def is_right(signature: RsaSignature, key: RsaKey, parts: Iterable[bytes]) -> bool:
    """Tell whether a key has signed these bytes. Raises `OpenPgpError` for a key that is too weak."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    bits = key.modulus.bit_length()
    if not MIN_KEY_BITS <= bits <= MAX_KEY_BITS:
        raise OpenPgpError(f"an RSA key of {bits} bits")
    digest = hashlib.new(signature.hash_name)
    for part in parts:
        digest.update(part)
    digest.update(signature.trailer)
    algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[signature.hash_name]
    try:
        public = RSAPublicNumbers(key.exponent, key.modulus).public_key()
        value = signature.value.rjust((bits + 7) // 8, b"\0")
        public.verify(value, digest.digest(), PKCS1v15(), Prehashed(algorithm))
    except InvalidSignature:
        return False
    except ValueError as error:
        raise OpenPgpError(f"no usable RSA key: {error}") from error
    return True


class _Fields(Struct, frozen=True):
    """What a signature of version 4 says besides its number."""

    kind: int
    hashed: dict[int, bytes]
    unhashed: dict[int, bytes]
    covered: bytes
    end: int

    @classmethod
    def read(cls, body: bytes, *, of_file: bool) -> _Fields:
        hashed_end = 6 + int.from_bytes(body[4:6], "big")
        unhashed_end = hashed_end + 2 + int.from_bytes(body[hashed_end : hashed_end + 2], "big")
        if len(body) < unhashed_end + 2:
            raise OpenPgpError("a truncated signature")
        hashed = _subpackets(body[6:hashed_end], of_file=of_file)
        unhashed = _subpackets(body[hashed_end + 2 : unhashed_end], of_file=of_file)
        return cls(body[1], hashed, unhashed, body[:hashed_end], unhashed_end)

    def number(self, kind: int) -> int | None:
        value = self.hashed.get(kind)
        return int.from_bytes(value, "big") if value is not None and len(value) == 4 else None

    @property
    def issuer(self) -> bytes:
        for fields in (self.hashed, self.unhashed):
            if len(fields.get(_ISSUER, b"")) == 8:
                return fields[_ISSUER]
            if fields.get(_ISSUER_FINGERPRINT, b"")[:1] == b"\x04":
                return fields[_ISSUER_FINGERPRINT][-8:]
        raise OpenPgpError("a signature that names no key")


def _read_v3(body: bytes) -> RsaSignature:
    if len(body) < 19 or body[1] != 5:
        raise OpenPgpError("a truncated signature of version 3")
    value, _ = _number(body, 19)
    return RsaSignature(
        key_id=body[7:15],
        hash_name=_hash_name(body[2], body[15], body[16]),
        created=int.from_bytes(body[3:7], "big"),
        ends=None,
        trailer=body[2:7],
        value=value,
    )


def _read_v4(body: bytes) -> RsaSignature:
    if len(body) < 10 or body[0] != 4:
        raise OpenPgpError(f"a signature of version {body[0] if body else 'unknown'}")
    hash_name = _hash_name(body[1], body[2], body[3])
    fields = _Fields.read(body, of_file=True)
    created, lasts = fields.number(_CREATED), fields.number(_EXPIRES)
    if created is None:
        raise OpenPgpError("a signature without a time")
    value, _ = _number(body, fields.end + 2)
    return RsaSignature(
        key_id=fields.issuer,
        hash_name=hash_name,
        created=created,
        ends=created + lasts if lasts else None,
        trailer=fields.covered + b"\x04\xff" + len(fields.covered).to_bytes(4, "big"),
        value=value,
    )


def _hash_name(kind: int, algorithm: int, digest: int) -> str:
    if kind != 0:
        raise OpenPgpError(f"a signature of the kind {kind:#x}, not of a file")
    if algorithm not in _RSA:
        raise OpenPgpError(f"a signature by the algorithm {algorithm}, not by RSA")
    if digest not in _HASHES:
        raise OpenPgpError(f"a signature of the weak or unknown digest {digest}")
    return _HASHES[digest]


def _subpackets(data: bytes, *, of_file: bool) -> dict[int, bytes]:
    """
    Of several of a kind the first counts. Raises `OpenPgpError` for a critical one that isn't understood, in a
    signature of a file.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        length, at = _length(data, at)
        if not length or at + length > len(data):
            raise OpenPgpError("a broken subpacket")
        kind = data[at] & 0x7F
        if of_file and data[at] & 0x80 and kind not in _HARMLESS:
            raise OpenPgpError(f"a critical subpacket {kind}")
        found.setdefault(kind, data[at + 1 : at + length])
        at += length
    return found


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = count = 0
    while at < len(data):
        head = data[at]
        count += 1
        if not head & 0x80 or count > _MAX_PACKETS:
            raise OpenPgpError("no OpenPGP packet")
        if head & 0x40:
            tag = head & 0x3F
            length, at = _length(data, at + 1)
        else:
            tag, width = head >> 2 & 0x0F, 1 << (head & 3)
            if width == 8:
                raise OpenPgpError("a packet without a length")
            length, at = int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width
        if at + length > len(data):
            raise OpenPgpError("a truncated packet")
        yield tag, data[at : at + length]
        at += length


def _length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 0
    if first < 192:
        return first, at + 1
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    if first >= 224:
        raise OpenPgpError("a packet in parts")
    return ((first - 192) << 8) + (data[at + 1] if at + 1 < len(data) else 0) + 192, at + 2


def _number(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a multiprecision integer's bytes, and where the next begins."""
    end = at + 2 + (int.from_bytes(data[at : at + 2], "big") + 7) // 8
    if end > len(data) or at + 2 > len(data):
        raise OpenPgpError("a truncated number")
    return data[at + 2 : end], end
