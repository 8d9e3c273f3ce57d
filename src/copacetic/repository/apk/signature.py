# SPDX-License-Identifier: Apache-2.0
"""
Signatures of apk v2: RSA (PKCS#1 v1.5) over the compressed bytes that follow the signature.

A signature names the file of its key. The first one whose key the image has decides: a bad one is an error, and no
other is tried. `cryptography` does the arithmetic; which key, which digest and what is enough is decided here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from copacetic.cache import Bucket
from copacetic.errors import RepositoryError, SignatureError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.apk.adb import AdbSignature
from copacetic.repository.apk.package import ApkSignature

__all__ = ["ApkKeyring", "Key", "load_public_key"]

KEY_LIMIT = 64 * 1024
KEY_FOLDERS = ("etc/apk/keys", "lib/apk/keys", "usr/lib/apk/keys")
_KEY_TREES = tuple(f"{folder}/" for folder in (*KEY_FOLDERS, "usr/share/apk/keys"))
MIN_KEY_BITS = 2048
_KEY_NAME = re.compile(r"[A-Za-z0-9@._+-]{1,200}")
_MAX_KEYS = 500
_DIGESTS = {"RSA": "sha1", "RSA256": "sha256", "RSA512": "sha512"}


class Key(Struct, frozen=True):
    """A public key's file."""

    name: str
    data: bytes
    origin: str
    """Where it comes from, for people."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()


class ApkKeyring:
    """The keys of an image, and those that the user or this machine adds."""

    def __init__(self, fs: ImageFilesystem, *, extra: Sequence[Path], host: ImageFilesystem | None) -> None:
        self._image = {key.name: key for key in _image_keys(fs, "")}
        self._extra = [key for path in extra for key in _user_keys(path)]
        self._borrowed = False
        if not self._image and host is not None:
            self._image = {key.name: key for key in _image_keys(host, "this machine's ")}
            self._borrowed = bool(self._image)

    def notes(self) -> tuple[str, ...]:
        """Say which keys aren't the image's."""
        if not self._borrowed:
            return ()
        names = ", ".join(sorted(self._image))
        return (f"the image lacks keys for its repositories; this machine's are trusted: {names}",)

    @property
    def keys(self) -> tuple[Key, ...]:
        """All of them, the user's first."""
        return (*self._extra, *self._image.values())

    def verify(self, signatures: Sequence[ApkSignature], signed: bytes, where: str, *, verdicts: Bucket) -> Key:
        """
        Return the key that signed these bytes.

        `verdicts` remembers what was found right, so that the same bytes, signature and key cost nothing again.
        Raises `SignatureError`.
        """
        if not signatures:
            raise SignatureError(f"{where} is not signed")
        digest = hashlib.sha256(signed).hexdigest()
        for signature in signatures:
            keys = self._candidates(signature.key_name)
            for number, key in enumerate(keys):
                if _is_right(signature, key, signed, digest, verdicts, where):
                    return key
                if key.name == signature.key_name or number == len(keys) - 1:
                    raise SignatureError(f"{where}: the signature by {signature.key_name} is wrong ({key.origin})")
        names = ", ".join(signature.key_name for signature in signatures)
        has = "the image has no key of that name" if self._image else "the image has no keys"
        raise SignatureError(f"{where} is signed by {names}, and {has}")

    def verify_v3(self, signatures: Sequence[AdbSignature], where: str) -> Key:
        """
        Return the key that signed an index of apk 3: its signatures name the digest of their key.

        Raises `SignatureError`.
        """
        if not signatures:
            raise SignatureError(f"{where} is not signed")
        by_id = {_key_id(key): key for key in reversed(self.keys)}
        for signature in signatures:
            key = by_id.get(signature.key_id)
            if key is None:
                continue
            if not _verify(key, signature.signature, signature.signed, "sha512"):
                raise SignatureError(f"{where}: the signature by {key.name} is wrong ({key.origin})")
            return key
        raise SignatureError(f"{where} is signed by none of the image's keys")

    def _candidates(self, name: str) -> list[Key]:
        """The key of that name; or else those of the user's, who may call their files as they like."""
        named = [key for key in (*self._extra, *self._image.values()) if key.name == name]
        return named[:1] or self._extra


def _is_right(signature: ApkSignature, key: Key, signed: bytes, digest: str, verdicts: Bucket, where: str) -> bool:
    name = _DIGESTS.get(signature.algorithm)
    if name is None:
        raise SignatureError(f"{where} has a signature of the kind {signature.algorithm}, which is not supported")
    identity = (signature.algorithm, signature.signature.hex(), key.fingerprint, digest)
    verdict = hashlib.sha256(" ".join(identity).encode()).hexdigest()
    if verdicts.path(verdict) is not None:
        return True
    if not _verify(key, signature.signature, signed, name):
        return False
    verdicts.write(verdict, b"")
    return True


def _verify(key: Key, signature: bytes, signed: bytes, digest: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    public = load_public_key(key)
    if not isinstance(public, RSAPublicKey) or public.key_size < MIN_KEY_BITS:
        raise SignatureError(f"{key.origin} is no RSA key of at least {MIN_KEY_BITS} bits")
    # Alpine signs its indexes with SHA-1 to this day; a forger would need a second preimage, not a collision.
    algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}[digest]  # noqa: S303
    try:
        public.verify(signature, signed, PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def _key_id(key: Key) -> bytes:
    """The first 16 bytes of the SHA-512 of the bare RSA key; b"" for a file that holds none."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        public = load_public_key(key)
    except SignatureError:
        return b""
    if not isinstance(public, RSAPublicKey):
        return b""
    return hashlib.sha512(public.public_bytes(Encoding.DER, PublicFormat.PKCS1)).digest()[:16]


def load_public_key(key: Key) -> object:
    """Read a PEM file. Raises `SignatureError`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(key.data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{key.origin} holds no public key") from error


def _image_keys(fs: ImageFilesystem, prefix: str) -> Iterator[Key]:
    """Yield the keys of an image, or (with a prefix) of this machine: of these no link may lead elsewhere."""
    seen: set[str] = set()
    for folder in KEY_FOLDERS:
        for name in fs.iterdir(folder)[:_MAX_KEYS]:
            if name in seen or not _KEY_NAME.fullmatch(name):
                continue
            if not fs.resolve(f"{folder}/{name}").startswith(_KEY_TREES) and prefix:
                continue
            try:
                data = fs.read(f"{folder}/{name}", limit=KEY_LIMIT)
            except FileNotFoundError:
                continue
            seen.add(name)
            yield Key(name, data, f"{prefix}{folder}/{name}")


def _user_keys(path: Path) -> list[Key]:
    try:
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        found = []
        for file in files:
            with file.open("rb") as stream:
                data = stream.read(KEY_LIMIT + 1)
            if len(data) > KEY_LIMIT:
                raise RepositoryError(f"the key {file} has more than {KEY_LIMIT} bytes", hint="check --keyring")
            found.append(Key(file.name, data, str(file)))
    except OSError as error:
        raise RepositoryError(f"can't read the key {path}: {error.strerror}", hint="check --keyring") from error
    return found
