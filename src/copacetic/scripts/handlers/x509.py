# SPDX-License-Identifier: Apache-2.0
"""
The subject's hash of a certificate, by which OpenSSL looks certificates up in a directory.

Follows X.690 (DER), RFC 5280 for where the subject is, and openssl-rehash(1): the name in canonical form (strings as
UTF-8, lower case, single spaces), SHA-1, and its first four bytes as a little-endian number.
"""

from __future__ import annotations

import base64
import hashlib
import re

from msgspec import Struct

__all__ = ["Certificate", "encode_element", "read_certificates", "read_element"]

_PEM = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----\s+([A-Za-z0-9+/=\s]+?)-----END \1-----", re.DOTALL
)
_SEQUENCE, _SET, _UTF8 = 0x30, 0x31, 0x0C
_ENCODINGS = {
    0x0C: "utf-8",
    0x13: "latin-1",  # PrintableString
    0x14: "latin-1",  # T61String
    0x16: "latin-1",  # IA5String
    0x1A: "latin-1",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_SPACE = re.compile(rb"[ \t\n\v\f\r]+")


class Certificate(Struct, frozen=True):
    """What a directory of certificates needs to know of one."""

    subject_hash: str
    """Eight hexadecimal digits."""
    fingerprint: str


def read_certificates(data: bytes) -> tuple[Certificate, ...]:
    """Return the certificates of a PEM file. Raises `ValueError` for one that is broken."""
    found: list[Certificate] = []
    for match in _PEM.finditer(data):
        der = base64.b64decode(match[2])
        found.append(Certificate(_subject_hash(der), hashlib.sha1(der, usedforsecurity=False).hexdigest()))
    return tuple(found)


def _subject_hash(der: bytes) -> str:
    certificate = _expect(der, 0, _SEQUENCE)[0]
    body = _expect(certificate, 0, _SEQUENCE)[0]
    position = 0
    tag, _, after = read_element(body, 0)
    if tag == 0xA0:  # the version, when it is there
        position = after
    for _ in range(4):  # serial number, signature algorithm, issuer, validity
        position = read_element(body, position)[2]
    subject = _expect(body, position, _SEQUENCE)[0]
    canonical = b"".join(_canonical_set(part) for part in _children(subject, _SET))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _canonical_set(content: bytes) -> bytes:
    pairs: list[bytes] = []
    for pair in _children(content, _SEQUENCE):
        _, _, after = read_element(pair, 0)
        identifier = pair[:after]
        tag, value, _ = read_element(pair, after)
        pairs.append(encode_element(_SEQUENCE, identifier + _canonical_value(tag, value, pair[after:])))
    return encode_element(_SET, b"".join(sorted(pairs)))


def _canonical_value(tag: int, value: bytes, whole: bytes) -> bytes:
    encoding = _ENCODINGS.get(tag)
    if encoding is None:
        return whole
    text = _SPACE.sub(b" ", value.decode(encoding).encode().strip(b" \t\n\v\f\r"))
    return encode_element(_UTF8, text.lower())


def _children(content: bytes, tag: int) -> list[bytes]:
    found: list[bytes] = []
    position = 0
    while position < len(content):
        child, position = _expect(content, position, tag)
        found.append(child)
    return found


def _expect(data: bytes, position: int, tag: int) -> tuple[bytes, int]:
    found, content, after = read_element(data, position)
    if found != tag:
        raise ValueError(f"a DER element of type {found:#x} where {tag:#x} belongs")
    return content, after


def read_element(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Return an element's tag, its content, and where the next one starts."""
    if position + 2 > len(data):
        raise ValueError("truncated DER")
    tag, length = data[position], data[position + 1]
    position += 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or position + count > len(data):
            raise ValueError("a DER length that makes no sense")
        length = int.from_bytes(data[position : position + count], "big")
        position += count
    if position + length > len(data):
        raise ValueError("truncated DER")
    return tag, data[position : position + length], position + length


def encode_element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content
