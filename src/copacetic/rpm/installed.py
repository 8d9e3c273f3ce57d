# SPDX-License-Identifier: Apache-2.0
"""
The header that a package has in the database once it is installed: what was signed, byte for byte, and behind it what
the installation adds, as rpm's own releases do it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from copacetic.rpm import tags
from copacetic.rpm.header import BINARY, CHAR, STRING, HeaderError, RpmEntry, RpmHeader, number_entry, texts_entry
from copacetic.rpm.package import RpmPackage

__all__ = ["FIRST_WITH_FIXED_TAGS", "installed_header"]

FIRST_WITH_FIXED_TAGS = (4, 16)
"""The release of rpm that began to take only signature tags that it knows."""
_OTHER_NUMBER = {
    tags.SIG_SIZE: tags.SIGNATURE_SIZE,
    tags.SIG_PGP: tags.SIGNATURE_PGP,
    tags.SIG_MD5: tags.SIGNATURE_MD5,
    tags.SIG_GPG: tags.SIGNATURE_GPG,
    tags.SIG_PAYLOAD_SIZE: tags.ARCHIVE_SIZE,
}
_OTHER_NUMBER_SINCE = {
    tags.SIG_FILE_SIGNATURES: tags.FILE_SIGNATURES,
    tags.SIG_FILE_SIGNATURE_LENGTH: tags.FILE_SIGNATURE_LENGTH,
}
"""Of releases with fixed tags: before, what was a list stayed outside."""
_SAME_NUMBER = frozenset(
    {
        *(tags.DSA_HEADER, tags.RSA_HEADER, tags.SHA1_HEADER, tags.LONG_SIGNATURE_SIZE, tags.LONG_ARCHIVE_SIZE),
        *(tags.SHA256_HEADER, tags.VERITY_SIGNATURES, tags.VERITY_SIGNATURE_ALGORITHM),
    }
)
_SINCE_6 = frozenset({tags.OPENPGP, tags.SHA3_256_HEADER})
_MAY_BE_THERE = frozenset({tags.ARCHIVE_SIZE, tags.FILE_SIGNATURES, tags.FILE_SIGNATURE_LENGTH})
"""What a package may say itself, and then it counts."""
_FIRST_OF_SIGNATURES = 256
_LONGEST = 16 * 1024


def installed_header(
    package: RpmPackage,
    *,
    states: Sequence[int],
    color: int | None,
    time: int,
    transaction: int,
    release: tuple[int, int] = FIRST_WITH_FIXED_TAGS,
) -> RpmHeader:
    """
    Return the header as rpm's `release` would store it. `states` has one for each file (`files.FileState`), `color` is
    what the image's other packages have. Raises `HeaderError` for a package that rpm wouldn't install.
    """
    old = release < FIRST_WITH_FIXED_TAGS
    same = _SAME_NUMBER | _SINCE_6 if release >= (6, 0) else _SAME_NUMBER
    added = list(_taken_by_old(package) if old else _taken(package, same))
    prefixes = package.header.texts(tags.PREFIXES)
    if prefixes and tags.INSTALL_PREFIXES not in package.header:  # where it could have gone elsewhere
        added.append(texts_entry(tags.INSTALL_PREFIXES, [prefix.rstrip("/") or "/" for prefix in prefixes]))
    if states:
        added.append(number_entry(tags.FILE_STATES, states, CHAR))
    if color is not None:
        added.append(number_entry(tags.INSTALL_COLOR, [color]))
    added += [number_entry(tags.INSTALL_TIME, [time]), number_entry(tags.INSTALL_TID, [transaction])]
    return package.header.with_entries(added)


def _taken(package: RpmPackage, same: frozenset[int]) -> Iterator[RpmEntry]:
    others = _OTHER_NUMBER | _OTHER_NUMBER_SINCE
    for entry in package.signature.entries():
        tag = others.get(entry.tag, entry.tag)
        if entry.tag not in others and tag not in same:
            continue
        if tag not in package.header:
            yield replace(entry, tag=tag)
        elif tag not in _MAY_BE_THERE:
            raise HeaderError(f"tag {tag}, which tells of its signature, stands in what is signed")


def _taken_by_old(package: RpmPackage) -> Iterator[RpmEntry]:
    """Of those releases that took whatever was there, unless it was long or a list."""
    for entry in package.signature.entries():
        tag = _OTHER_NUMBER.get(entry.tag, entry.tag)
        if (entry.tag in _OTHER_NUMBER or _FIRST_OF_SIGNATURES <= tag < tags.NAME) and tag not in package.header:
            is_number = entry.type < STRING and entry.count == 1
            if is_number or (entry.type in {STRING, BINARY} and len(entry.raw) < _LONGEST):
                yield replace(entry, tag=tag)
