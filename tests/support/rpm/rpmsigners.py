# SPDX-License-Identifier: Apache-2.0
"""Who signs packages and metadata: today's OpenPGP, and RSA as EL 7 and SUSE sign to this day."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from pysequoia import ArmorKind, SignatureMode, Tsk, armor, sign

CREATED = 1_600_000_000
_HASHES = {"sha1": (2, hashes.SHA1()), "sha256": (8, hashes.SHA256()), "sha512": (10, hashes.SHA512())}


class Signer(Protocol):
    """Signs bytes, and has a key for others."""

    @property
    def public(self) -> bytes: ...

    @property
    def fingerprint(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """Return a detached signature's packets."""
        ...


@dataclass(frozen=True)
class ModernSigner:
    """As `pysequoia` makes keys and signatures."""

    key: Tsk

    @property
    def public(self) -> bytes:
        return str(self.key.extract_certificate()).encode()

    @property
    def fingerprint(self) -> str:
        return str(self.key.extract_certificate().fingerprint).upper()

    def sign(self, data: bytes) -> bytes:
        armored = sign(self.key.signer(), data, mode=SignatureMode.DETACHED)
        return dearmored(armored)


@dataclass(frozen=True)
class RsaSigner:
    """A bare key, which binds nothing to itself, and signatures of version 3 or 4."""

    key: RSAPrivateKey
    version: int = 3
    hash_name: str = "sha256"
    kind: int = 0
    signs_at: int = CREATED
    claims: bytes = b""
    """Packets that the key's file has behind it."""

    @property
    def _body(self) -> bytes:
        numbers = self.key.public_key().public_numbers()
        return struct.pack(">BIB", 4, CREATED, 1) + mpi(numbers.n) + mpi(numbers.e)

    @property
    def _digest(self) -> bytes:
        return hashlib.sha1(b"\x99" + struct.pack(">H", len(self._body)) + self._body).digest()

    @property
    def fingerprint(self) -> str:
        return self._digest.hex().upper()

    @property
    def public(self) -> bytes:
        packets = packet(6, self._body) + packet(13, b"Tests <tests@example.com>") + self.claims
        return str(armor(packets, kind=ArmorKind.PublicKey)).encode()

    def sign(self, data: bytes) -> bytes:
        number, algorithm = _HASHES[self.hash_name]
        if self.version == 3:
            trailer = struct.pack(">BI", self.kind, self.signs_at)
            head = b"\x03\x05" + trailer + self._digest[-8:] + struct.pack(">BB", 1, number)
        else:
            hashed = subpacket(2, struct.pack(">I", self.signs_at)) + subpacket(16, self._digest[-8:])
            head = struct.pack(">BBBBH", 4, self.kind, 1, number, len(hashed)) + hashed
            trailer = head + b"\x04\xff" + struct.pack(">I", len(head))
            head += b"\0\0"
        digest = hashlib.new(self.hash_name, data + trailer).digest()
        value = self.key.sign(data + trailer, PKCS1v15(), algorithm)
        return packet(2, head + digest[:2] + mpi(int.from_bytes(value, "big")))


def mpi(number: int) -> bytes:
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def subpacket(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def claim(kind: int, *subpackets: bytes) -> bytes:
    """Return a signature packet of version 4 that says something of a key; nobody's arithmetic is right in it."""
    hashed = subpacket(2, struct.pack(">I", CREATED)) + b"".join(subpackets)
    head = struct.pack(">BBBBH", 4, kind, 1, 8, len(hashed)) + hashed + b"\0\0"
    return packet(2, head + b"\0\0" + mpi(1 << 2047))


def dearmored(armored: bytes) -> bytes:
    lines = armored.decode().replace("\r", "").split("\n")
    body = lines[lines.index("") + 1 :]
    return base64.b64decode("".join(line for line in body if line and line[0] not in "=-"))


@lru_cache(maxsize=8)
def modern_signer(name: str = "tests") -> ModernSigner:
    """Return one signer for each name."""
    return ModernSigner(Tsk.generate(f"{name} <{name}@example.com>"))


@lru_cache(maxsize=8)
def rsa_key(name: str = "tests", bits: int = 2048) -> RSAPrivateKey:
    """Return one key for each name."""
    return generate_private_key(65537, bits)
