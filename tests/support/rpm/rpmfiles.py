# SPDX-License-Identifier: Apache-2.0
"""Small packages, made byte by byte: as rpmbuild makes them, and as nobody should."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from copacetic.rpm import tags
from copacetic.rpm.header import INT32, RpmEntry, RpmHeader, binary_entry, number_entry, text_entry, texts_entry
from support.rpm.rpmsigners import Signer

ARCHITECTURE = "x86_64"
BUILT = 1_700_000_000
_FLAGS = {"<": 2, ">": 4, "=": 8, "<=": 10, ">=": 12}
_LEAD = b"\xed\xab\xee\xdb\x03\0\0\0\0\x01" + b"made".ljust(66, b"\0") + b"\0\x01\0\x05" + b"\0" * 16
_RELATIONS = {
    "provides": (tags.PROVIDE_NAMES, tags.PROVIDE_FLAGS, tags.PROVIDE_VERSIONS),
    "requires": (tags.REQUIRE_NAMES, tags.REQUIRE_FLAGS, tags.REQUIRE_VERSIONS),
    "conflicts": (tags.CONFLICT_NAMES, tags.CONFLICT_FLAGS, tags.CONFLICT_VERSIONS),
    "obsoletes": (tags.OBSOLETE_NAMES, tags.OBSOLETE_FLAGS, tags.OBSOLETE_VERSIONS),
}


def relation(text: str) -> tuple[str, int, str]:
    """Return name, flags and version of `name >= version`."""
    match = re.fullmatch(r"(\S+) (<=|>=|<|>|=) (\S+)", text)
    return (match[1], _FLAGS[match[2]], match[3]) if match else (text, 0, "")


@dataclass(frozen=True, kw_only=True)
class Rpm:
    """One package, without files but for their names."""

    name: str
    version: str = "1"
    release: str = "1"
    epoch: int | None = None
    architecture: str = ARCHITECTURE
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    vendor: str = "Tests"
    source: str = ""
    module: str = ""
    """The whole label of the module that it belongs to."""
    payload: bytes = b"content"
    payload_digest: bool = True
    covers: str = "header"
    """What the signer signs: header, both, or nothing."""
    alter: Callable[[bytes], bytes] = field(default=lambda data: data)
    """Changes the file after it was signed."""

    @property
    def evr(self) -> str:
        return f"{self.epoch}:{self.version}-{self.release}" if self.epoch else f"{self.version}-{self.release}"

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-{self.release}.{self.architecture}.rpm"

    @property
    def source_rpm(self) -> str:
        return self.source or f"{self.name}-{self.version}-{self.release}.src.rpm"

    @property
    def all_provides(self) -> tuple[str, ...]:
        return (f"{self.name} = {self.evr}", *self.provides)

    def header(self) -> RpmHeader:
        payload = self._payload()
        entries: list[RpmEntry] = [
            text_entry(tags.NAME, self.name),
            text_entry(tags.VERSION, self.version),
            text_entry(tags.RELEASE, self.release),
            text_entry(tags.ARCH, self.architecture),
            text_entry(tags.OS, "linux"),
            text_entry(tags.VENDOR, self.vendor),
            text_entry(tags.SOURCE_RPM, self.source_rpm),
            text_entry(tags.PAYLOAD_FORMAT, "cpio"),
            text_entry(tags.PAYLOAD_COMPRESSOR, "gzip"),
            number_entry(tags.BUILD_TIME, [BUILT]),
            number_entry(tags.SIZE, [len(self.payload)]),
        ]
        if self.epoch is not None:
            entries.append(number_entry(tags.EPOCH, [self.epoch]))
        if self.module:
            entries.append(text_entry(tags.MODULARITY_LABEL, self.module))
        for kind, numbers in _RELATIONS.items():
            rows = [relation(one) for one in (self.all_provides if kind == "provides" else getattr(self, kind))]
            if rows:
                names, flags, versions = zip(*rows, strict=True)
                entries += [
                    texts_entry(numbers[0], names),
                    number_entry(numbers[1], flags),
                    texts_entry(numbers[2], versions),
                ]
        if self.payload_digest:
            entries.append(texts_entry(tags.PAYLOAD_DIGEST, [hashlib.sha256(payload).hexdigest()]))
            entries.append(number_entry(tags.PAYLOAD_DIGEST_ALGORITHM, [8], INT32))
        return RpmHeader.build(entries)

    def _payload(self) -> bytes:
        return gzip.compress(self.payload, mtime=0)

    def to_bytes(self, signer: Signer | None = None) -> bytes:
        """Return the file."""
        header, payload = self.header(), self._payload()
        signed = header.signed_bytes
        entries = [
            text_entry(tags.SHA256_HEADER, hashlib.sha256(signed).hexdigest()),
            text_entry(tags.SHA1_HEADER, hashlib.sha1(signed).hexdigest()),
            number_entry(tags.SIG_SIZE, [len(signed) + len(payload)]),
        ]
        if signer is not None:
            if self.covers in {"header", "both"}:
                entries.append(binary_entry(tags.RSA_HEADER, signer.sign(signed)))
            if self.covers in {"whole", "both"}:
                entries.append(binary_entry(tags.SIG_PGP, signer.sign(signed + payload)))
        signature = RpmHeader.build(entries, region=tags.HEADER_SIGNATURES).blob
        head = b"\x8e\xad\xe8\x01\0\0\0\0" + signature
        buffer = io.BytesIO()
        buffer.write(_LEAD + head + b"\0" * (-len(head) % 8) + signed + payload)
        return self.alter(buffer.getvalue())


def key_header(public: bytes) -> RpmHeader:
    """Return the header of the package that rpm makes of a key that it trusts."""
    entries = [
        text_entry(tags.NAME, "gpg-pubkey"),
        text_entry(tags.VERSION, "0a1b2c3d"),
        text_entry(tags.RELEASE, "4e5f6071"),
        text_entry(tags.DESCRIPTION, "a key"),
        texts_entry(tags.PUBLIC_KEYS, [base64.b64encode(public).decode()]),
    ]
    return RpmHeader.build(entries)
