# SPDX-License-Identifier: Apache-2.0
"""
Stanzas of one-letter fields, as they stand in an index and in front of each package of the `installed` database.

    C identity       S size of the file   o origin        k provider priority  r replaces
    P name           I installed size     m maintainer    D depends            q replaces priority
    V version        T description        t build time    p provides           s repository tag
    A architecture   U url, L licence     c commit        i install_if         f flags, g tags

A checksum is `Q1` and the base64 of 20 bytes: a SHA-1, or (apk 3) the first 20 bytes of a SHA-256.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

__all__ = [
    "DEPENDENCY_FIELDS",
    "ApkStanza",
    "checksum_bytes",
    "checksum_of",
    "format_header",
    "parse_fields",
    "stanza_of",
]

DEPENDENCY_FIELDS = frozenset("Dpir")
_ALWAYS = frozenset("CPVSITUL")
_NUMBERS = frozenset("SI")
_UNLESS_ZERO = frozenset("tkq")
_ORDER = "CPVASITULomtckDpigrqsf"
_OLD_FUZZY = re.compile(r"(?<=[^!<>=~])(?:=~|~=)")
_SLICE = re.compile(r"\[(.*)\]")
_CHECKSUM_SIZE = 20


class ApkStanza(Struct, frozen=True):
    """What is said of one package, in an index or in the database."""

    fields: Mapping[str, str]
    """By letter."""

    @property
    def name(self) -> str:
        return self.fields.get("P", "")

    @property
    def version(self) -> str:
        return self.fields.get("V", "")

    @property
    def identity(self) -> str:
        """`C:`, verbatim."""
        return self.fields.get("C", "")

    @property
    def origin(self) -> str:
        """The name of the source package; empty when it isn't known."""
        return self.fields.get("o", "")

    @property
    def cut_sha256(self) -> bool:
        """Whether an installed package's checksums are SHA-256 cut to 20 bytes (of a v3 package), and no SHA-1."""
        return "S" in self.fields.get("f", "")


class _Recorded(Protocol):
    @property
    def record(self) -> object: ...


_NO_STANZA = ApkStanza({})


def stanza_of(package: _Recorded) -> ApkStanza:
    """Return the record of an apk package, installed or offered; one without fields where there is none."""
    record = package.record
    if record is None:
        return _NO_STANZA
    assert isinstance(record, ApkStanza)
    return record


def parse_fields(text: str) -> dict[str, str]:
    """
    Return a stanza's fields by letter; of a letter that is there twice the first counts.

    apko prints lists of dependencies as a slice (`[]`, `[a b]`): its brackets are left out.
    """
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        if line[1:2] == ":" and line[0] not in fields:
            fields[line[0]] = line[2:]
    for letter in DEPENDENCY_FIELDS:
        if (value := fields.get(letter, "")).startswith("[") and (match := _SLICE.fullmatch(value)) is not None:
            fields[letter] = match[1]
    return fields


def format_header(fields: Mapping[str, str]) -> str:
    """Return the lines that apk writes for a package in `installed`, in apk's order, each with its newline."""
    lines: list[str] = []
    for letter in _ORDER:
        value = fields.get(letter, "")
        if letter in DEPENDENCY_FIELDS:
            value = " ".join(_OLD_FUZZY.sub("~", word) for word in value.split())
        if letter in _NUMBERS:
            value = value or "0"
        if letter in _ALWAYS or (value and not (letter in _UNLESS_ZERO and value == "0")):
            lines.append(f"{letter}:{value}\n")
    return "".join(lines)


def checksum_of(digest: bytes) -> str:
    """Write a digest as apk does; what is longer than a SHA-1 is cut."""
    return "Q1" + base64.b64encode(digest[:_CHECKSUM_SIZE]).decode()


def checksum_bytes(text: str) -> bytes | None:
    """
    Read a checksum, also without `Q1` as older versions of apko wrote it, and in apk 3's `X1` and hexadecimal.

    Returns None for anything else.
    """
    try:
        if text.startswith("X1"):
            digest = bytes.fromhex(text[2:])
        else:
            digest = base64.b64decode(text.removeprefix("Q1"), validate=True)
    except (ValueError, binascii.Error):
        return None
    return digest if len(digest) == _CHECKSUM_SIZE else None
