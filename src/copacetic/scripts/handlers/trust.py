# SPDX-License-Identifier: Apache-2.0
"""
update-ca-trust of the Red Hat family: bundles of trusted certificates, made of p11-kit's list of them.

Follows p11-kit's `extract`: certificates in the order of the list, with the purposes that extensions stapled to their
public keys give them. The program is known by its digest, and only where the administrator has added nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.x509 import encode_element, read_element

__all__ = ["CHOOSER", "LEGACY", "UPDATER", "is_known_program", "is_plain_trust", "update_trust"]

UPDATER = "usr/bin/update-ca-trust"
CHOOSER = "usr/bin/ca-legacy"
_KNOWN = frozenset(
    (
        "86dd662e96e248f1a7e8b9b7346b276ce3925727e6d8ce4943c18e06915be76d",
        "6045ee2291df0b0199bc554fd1828380a9ea12a7ee9f92eaec02bb05c87c000b",
    )
)
"""SHA-256 of the programs whose work is known: EL7's."""
SOURCE = "usr/share/pki/ca-trust-source"
BUNDLE = f"{SOURCE}/ca-bundle.trust.p11-kit"
LEGACY = "etc/pki/ca-trust/source/ca-bundle.legacy.crt"
TARGET = "etc/pki/ca-trust/extracted"
_ADDED = tuple(
    f"{folder}/{name}"
    for folder in ("etc/pki/ca-trust/source", SOURCE)
    for name in ("anchors", "blacklist", "blocklist")
)
_OWN = frozenset(("README", "anchors", "blacklist", "blocklist", "ca-bundle.legacy.crt", "ca-bundle.trust.p11-kit"))
MAX_BUNDLE = 32 * 1024 * 1024
_SEQUENCE, _OBJECT, _TEXT, _REJECTED = 0x30, 0x06, 0x0C, 0xA0
_PURPOSE = bytes.fromhex("2b060105050703")
_SERVER, _EMAIL, _CODE = (_PURPOSE + bytes((number,)) for number in (1, 4, 3))
_BUNDLES = {"tls": _SERVER, "email": _EMAIL, "objsign": _CODE}
_ALL = tuple(_PURPOSE + bytes((number,)) for number in range(1, 9))
_NONE = bytes.fromhex("2b060104019977060a10")
"""The purpose that stands for none, as a list can't be empty."""
_USAGE, _REJECT = "2.5.29.37", "1.3.6.1.4.1.3319.6.10.1"
_OBJECT_START = "[p11-kit-object-v1]"
_PEM = re.compile(r"-----BEGIN (CERTIFICATE|PUBLIC KEY)-----\s(.*?)-----END \1-----", re.DOTALL)
_CONSTRAINTS = re.compile(rb"\x06\x03\x55\x1d\x13(?:\x01\x01\xff)?\x04.\x30.\x01\x01\xff", re.DOTALL)
"""The extension of a certificate that says that it is an authority."""
_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")
_MAGIC, _VERSION, _TRUSTED = 0xFEEDFEED, 2, 2
_PASSWORD, _SALT = "changeit".encode("utf-16-be"), b"Mighty Aphrodite"


class _Anchor(Struct, frozen=True):
    """A certificate of the list."""

    der: bytes
    label: bytes
    trusted: bool
    distrusted: bool
    purposes: tuple[bytes, ...] | None
    rejected: tuple[bytes, ...]

    def serves(self, purpose: bytes) -> bool:
        """Tell whether it is an authority that is trusted for a purpose."""
        usable = self.purposes is None or purpose in self.purposes
        return self.trusted and not self.distrusted and usable and _is_authority(self.der)


def is_known_program(tree: TreeBuilder, path: str) -> bool:
    """Tell whether one of the image's programs is one whose work is known."""
    entry = tree.lookup(path)
    return entry is not None and entry.sha256 in _KNOWN


def is_plain_trust(tree: TreeBuilder) -> bool:
    """Tell whether all that is trusted is the distribution's own list."""
    if any(tree.iterdir(folder) for folder in _ADDED):
        return False
    folders = ("etc/pki/ca-trust/source", SOURCE)
    legacy = tree.lookup(LEGACY)
    own = all(name in _OWN for folder in folders for name in tree.iterdir(folder))
    return own and (legacy is None or legacy.size == 0) and tree.lookup(BUNDLE) is not None


def update_trust(tree: TreeBuilder, *, mtime: int) -> bool:
    """Write all bundles; False, and nothing is done, where the list is none."""
    data = tree.find(BUNDLE, limit=MAX_BUNDLE)
    if data is None:
        return False
    try:
        anchors = list(_read(data.decode("latin-1")))
        chosen = {name: [one for one in anchors if one.serves(purpose)] for name, purpose in _BUNDLES.items()}
    except (ValueError, IndexError):
        return False
    _write(tree, "openssl/ca-bundle.trust.crt", _openssl_bundle(anchors), mtime)
    for name, some in chosen.items():
        _write(tree, f"pem/{name}-ca-bundle.pem", _pem_bundle(some), mtime)
    _write(tree, "java/cacerts", _java_store(chosen["tls"], mtime), mtime)
    return True


def _write(tree: TreeBuilder, name: str, content: bytes, mtime: int) -> None:
    tree.put(f"{TARGET}/{name}", Entry(type=FileType.FILE, mode=0o444, mtime=mtime), content)


# -- reading -------------------------------------------------------------------------------------------------


def _read(text: str) -> Iterator[_Anchor]:
    """Yield the certificates; extensions are of every certificate with their public key, wherever they stand."""
    objects = text.split(_OBJECT_START)[1:]
    usages: dict[str, dict[bytes, tuple[bytes, ...]]] = {_USAGE: {}, _REJECT: {}}
    certificates: list[tuple[bytes, Mapping[str, str]]] = []
    for one in objects:
        fields = dict(re.findall(r"^([a-z0-9-]+): (.*)$", one, re.MULTILINE))
        match = _PEM.search(one)
        if match is None:
            raise ValueError("an object without a certificate or a key")
        der = base64.b64decode(match[2])
        if match[1] == "CERTIFICATE":
            certificates.append((der, fields))
        elif fields.get("object-id") in usages:
            usages[fields["object-id"]][der] = tuple(_purposes(_unescape(fields.get("value", ""))))
    for der, said in certificates:
        key = _public_key(der)
        yield _Anchor(
            der,
            _unescape(said.get("label", "")),
            trusted=said.get("trusted") == "true",
            distrusted=said.get("x-distrusted") == "true",
            purposes=usages[_USAGE].get(key),
            rejected=usages[_REJECT].get(key, ()),
        )


def _unescape(value: str) -> bytes:
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), value.strip('"').encode("latin-1"))


def _purposes(extension: bytes) -> Iterator[bytes]:
    """Yield the identifiers in an extension's value."""
    content, at = read_element(extension, 0)[1], 0
    value = b""
    while at < len(content):
        _, value, at = read_element(content, at)
    inner, at = read_element(value, 0)[1], 0
    while at < len(inner):
        tag, identifier, at = read_element(inner, at)
        if tag == _OBJECT:
            yield identifier


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """Return the fields of a certificate's signed part, each with its tag, as they are."""
    body = read_element(read_element(der, 0)[1], 0)[1]
    found, at = [], 0
    while at < len(body):
        start = at
        tag, _, at = read_element(body, at)
        found.append((tag, body[start:at]))
    return found


def _public_key(der: bytes) -> bytes:
    fields = _fields(der)
    return fields[6 if fields[0][0] == _REJECTED else 5][1]


def _is_authority(der: bytes) -> bool:
    """A certificate of the first version has no extensions, and counts as one."""
    return _fields(der)[0][0] != _REJECTED or _CONSTRAINTS.search(der) is not None


# -- writing -------------------------------------------------------------------------------------------------


def _pem(kind: str, label: bytes, data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join(
        (b"# " + label, f"-----BEGIN {kind}-----".encode(), *lines, f"-----END {kind}-----".encode(), b"")
    )


def _pem_bundle(anchors: Sequence[_Anchor]) -> bytes:
    return b"\n".join(_pem("CERTIFICATE", anchor.label, anchor.der) for anchor in anchors)


def _openssl_bundle(anchors: Sequence[_Anchor]) -> bytes:
    """All certificates, with what they are trusted for and what not (`CertAux`)."""
    return b"\n".join(
        _pem("TRUSTED CERTIFICATE", anchor.label, anchor.der + _encode_trust(anchor)) for anchor in anchors
    )


def _encode_trust(anchor: _Anchor) -> bytes:
    parts = b""
    rejected = anchor.rejected
    if anchor.distrusted:
        rejected += _ALL
    elif anchor.purposes is not None:
        parts += encode_element(_SEQUENCE, _identifiers(one for one in anchor.purposes if one != _NONE))
    if rejected:
        parts += encode_element(_REJECTED, _identifiers(rejected))
    return encode_element(_SEQUENCE, parts + encode_element(_TEXT, anchor.label))


def _identifiers(values: Iterator[bytes] | Sequence[bytes]) -> bytes:
    return b"".join(encode_element(_OBJECT, value) for value in values)


def _java_store(anchors: Sequence[_Anchor], mtime: int) -> bytes:
    """A store of Java's own, which everybody opens with the same password."""
    body = b"".join(number.to_bytes(4, "big") for number in (_MAGIC, _VERSION, len(anchors)))
    taken: set[bytes] = set()
    for anchor in anchors:
        name = _alias(anchor.label, taken)
        taken.add(name)
        body += _TRUSTED.to_bytes(4, "big") + _sized(name) + (1000 * mtime).to_bytes(8, "big") + _sized(b"X.509")
        body += len(anchor.der).to_bytes(4, "big") + anchor.der
    return body + hashlib.sha1(_PASSWORD + _SALT + body, usedforsecurity=False).digest()


def _alias(label: bytes, taken: set[bytes]) -> bytes:
    plain = re.sub(rb"[\s\x80-\xff]", b"", label).lower()
    name, number = plain, 1
    while name in taken:
        number += 1
        name = plain + f"-{number}".encode()
    return name


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
