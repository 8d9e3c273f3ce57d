# SPDX-License-Identifier: Apache-2.0
"""
A package file: a lead that nobody reads any more, a signature header, the package's header, and the payload.

Nothing in here says whether a signature is good.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from msgspec import Struct

from copacetic.rpm import tags
from copacetic.rpm.header import HEADER_MAGIC, HeaderError, RpmHeader

__all__ = ["RpmPackage"]

_LEAD_MAGIC = b"\xed\xab\xee\xdb"
_LEAD_SIZE = 96
_ALIGNMENT = 8
_MAX_SIGNATURE_ENTRIES = 32
_MAX_SIGNATURE_DATA = 64 * 1024 * 1024
_MAX_ENTRIES = 0xFFFF
_MAX_DATA = 256 * 1024 * 1024


class RpmPackage(Struct, frozen=True):
    """All but the payload."""

    signature: RpmHeader
    header: RpmHeader
    header_start: int
    """Where the header begins in the file, with its magic number."""
    payload_start: int
    """Where the payload begins; it goes to the end of the file."""

    @classmethod
    def read(cls, file: BinaryIO) -> RpmPackage:
        """Read a file from its beginning up to the payload. Raises `HeaderError` for what isn't a package."""
        lead = file.read(_LEAD_SIZE)
        if len(lead) != _LEAD_SIZE or not lead.startswith(_LEAD_MAGIC):
            raise HeaderError("it is not an rpm package")
        data = _read_header(file, _MAX_SIGNATURE_ENTRIES, _MAX_SIGNATURE_DATA, "the signature header")
        padding = -len(data) % _ALIGNMENT
        try:
            signature = RpmHeader(data[8:], is_signature=True)
        except HeaderError as error:
            raise HeaderError(f"the signature header: {error}") from error
        file.read(padding)
        start = _LEAD_SIZE + len(data) + padding
        data = _read_header(file, _MAX_ENTRIES, _MAX_DATA, "the header")
        header = RpmHeader(data[8:])
        if not header.is_immutable or header.region == tags.HEADER_SIGNATURES:
            raise HeaderError("not all of its header is what was signed")
        if signature.region not in {0, tags.HEADER_SIGNATURES}:
            raise HeaderError("the signature header isn't one")
        return cls(signature, header, start, start + len(data))


def _read_header(file: BinaryIO, most_entries: int, most_data: int, what: str) -> bytes:
    """Read a header with its magic number, and not more than that."""
    head = file.read(len(HEADER_MAGIC) + 8)
    if len(head) != len(HEADER_MAGIC) + 8 or not head.startswith(HEADER_MAGIC):
        raise HeaderError(f"{what} doesn't begin as one does")
    count, size = struct.unpack_from(">II", head, len(HEADER_MAGIC))
    if count > most_entries or size > most_data:
        raise HeaderError(f"{what} says that it has {count} entries and {size} bytes of data")
    rest = file.read(16 * count + size)
    if len(rest) != 16 * count + size:
        raise HeaderError(f"{what} is truncated")
    return head + rest
