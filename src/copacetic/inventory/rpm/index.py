# SPDX-License-Identifier: Apache-2.0
"""
What rpm's indexes say of a header: rows of a key and the position of what has it, the same for every format.

Their rules have changed with rpm's releases, and nobody else knows which one wrote them: they go by the release that
the image has, or that its packages were built with.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from msgspec import Struct

from copacetic.rpm import tags
from copacetic.rpm.header import RpmHeader

__all__ = ["BINARY_INDEXES", "INDEXES", "IndexRules"]

INDEXES = {
    "Name": tags.NAME,
    "Basenames": tags.BASE_NAMES,
    "Group": tags.GROUP,
    "Requirename": tags.REQUIRE_NAMES,
    "Providename": tags.PROVIDE_NAMES,
    "Conflictname": tags.CONFLICT_NAMES,
    "Obsoletename": tags.OBSOLETE_NAMES,
    "Triggername": tags.TRIGGER_NAMES,
    "Dirnames": tags.DIRECTORY_NAMES,
    "Installtid": tags.INSTALL_TID,
    "Sigmd5": tags.SIGNATURE_MD5,
    "Sha1header": tags.SHA1_HEADER,
    "Filetriggername": tags.FILE_TRIGGER_NAMES,
    "Transfiletriggername": tags.TRANSACTION_FILE_TRIGGER_NAMES,
    "Recommendname": tags.RECOMMEND_NAMES,
    "Suggestname": tags.SUGGEST_NAMES,
    "Supplementname": tags.SUPPLEMENT_NAMES,
    "Enhancename": tags.ENHANCE_NAMES,
}
"""By their names, in the order in which rpm opens them, which index what tag."""
BINARY_INDEXES = frozenset({"Installtid", "Sigmd5"})
"""Those whose keys are no text."""

_BIG_ENDIAN = frozenset({"s390", "s390x", "ppc", "ppc64"})
_RICH = frozenset({"Requirename", "Conflictname", "Suggestname", "Supplementname", "Recommendname", "Enhancename"})
_TRIGGER_NUMBERS = {
    "Filetriggername": tags.FILE_TRIGGER_INDEXES,
    "Transfiletriggername": tags.TRANSACTION_FILE_TRIGGER_INDEXES,
}
_UNKNOWN_GROUP = b"Unknown"
_WORD = re.compile(r"[()]|[^\s()]+(?:\([^\s()]*\)[^\s()]*)*")
_MOST_NAMES = 1_000
"""In one dependency; more than that are not found one by one."""
_OPERATORS = frozenset({"and", "or", "with", "without", "if", "unless", "else"})
_CONDITIONS = frozenset({"if", "unless"})
_COMPARISONS = frozenset({"<", "<=", "=", ">=", ">"})

# Of a requirement, when it counts (rpmds.h).
_POSTTRANS, _PRETRANS, _PRE, _POST, _PREUN, _POSTUN = 1 << 5, 1 << 7, 1 << 9, 1 << 10, 1 << 11, 1 << 12
_RPMLIB, _KEYRING, _META = 1 << 24, 1 << 26, 1 << 29
_INSTALLING = _PRE | _POST | _PRETRANS | _POSTTRANS | _RPMLIB | _KEYRING
_ERASING = _PREUN | _POSTUN


class IndexRules(Struct, frozen=True):
    """What a release of rpm writes."""

    rich: bool = True
    """Since 4.13 the names in rich dependencies are found, too."""
    meta: bool = True
    """Since 4.16 what is only required while a package is installed is kept where it is marked as meta, too."""
    order: str = "<"
    """Of the bytes of numbers that are keys: the machine's own."""

    @classmethod
    def of(cls, release: tuple[int, int], architecture: str = "") -> IndexRules:
        order = ">" if architecture in _BIG_ENDIAN else "<"
        return cls(rich=release >= (4, 13), meta=release >= (4, 16), order=order)

    def rows(self, header: RpmHeader, index: str) -> list[tuple[bytes, int]]:
        """Return the keys of an index with their positions, as rpm writes them."""
        tag = INDEXES[index]
        if index in BINARY_INDEXES:
            return _binary_rows(header, tag, self.order)
        texts = header.raw_texts(tag)
        if index == "Group":
            return [(texts[0] if texts else _UNKNOWN_GROUP, 0)]
        if index == "Requirename":
            return list(self._with_rich(self._requirements(header, texts)))
        if index == "Triggername":
            first: dict[bytes, int] = {}
            for at, name in enumerate(texts):
                first.setdefault(name, at)
            return list(first.items())
        if index in _TRIGGER_NUMBERS:
            # A header that has fewer numbers than names is broken, and rpm would read what lies behind them.
            return list(zip(texts, header.numbers(_TRIGGER_NUMBERS[index]), strict=False))
        rows = [(name, at) for at, name in enumerate(texts)]
        return list(self._with_rich(rows)) if index in _RICH else rows

    def _requirements(self, header: RpmHeader, names: list[bytes]) -> list[tuple[bytes, int]]:
        """Leave out what only counts while a package is installed."""
        flags = header.numbers(tags.REQUIRE_FLAGS) or (0,) * len(names)
        kept = _META if self.meta else 0
        return [
            (name, at)
            for at, (name, flag) in enumerate(zip(names, flags, strict=False))
            if not flag & _INSTALLING or flag & (_ERASING | kept)
        ]

    def _with_rich(self, rows: list[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
        for name, at in rows:
            yield name, at
            if self.rich and name.startswith(b"("):
                for part in _rich_names(name.decode("utf-8", "surrogateescape")):
                    yield part.encode("utf-8", "surrogateescape"), at


def _binary_rows(header: RpmHeader, tag: int, order: str) -> list[tuple[bytes, int]]:
    numbers = header.numbers(tag)
    if numbers:
        return [(struct.pack(f"{order}I", number & 0xFFFF_FFFF), at) for at, number in enumerate(numbers)]
    data = header.binary(tag)
    return [(data, 0)] if data else []


def _rich_names(text: str) -> list[str]:
    """
    Return the names in a rich dependency, sorted. Those of a condition, whose coming breaks it, have an exclamation
    mark in front; where there is an `else`, a condition's names count in both ways.
    """
    names: list[tuple[bool, str]] = []
    groups: list[tuple[int, str]] = []
    """Of each open parenthesis: where the names of its condition begin, and its last operator."""
    inverted = skip = False
    for word in _WORD.findall(text):
        if skip:
            skip = False
        elif word == "(":
            groups.append((len(names), ""))
        elif word == ")":
            inverted ^= bool(groups) and groups.pop()[1] in _CONDITIONS
        elif word in _OPERATORS and groups:
            start = len(names) if word in _CONDITIONS else groups[-1][0]
            if word == "else":
                names += [(not negative, name) for negative, name in names[start:]]
            inverted ^= word in _CONDITIONS or word == "else"
            groups[-1] = (start, word)
        elif word in _COMPARISONS:
            skip = True
        elif not word.startswith("rpmlib("):
            names.append((inverted, word))
        if len(names) > _MOST_NAMES:  # each `else` may double them
            return []
    return [f"!{name}" if negative else name for negative, name in sorted(set(names))]
