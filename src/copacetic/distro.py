# SPDX-License-Identifier: Apache-2.0
"""Which distribution an image is, from os-release(5)."""

from __future__ import annotations

import re
import shlex

from msgspec import Struct

from copacetic.errors import UnsupportedImageError
from copacetic.lines import split_lines
from copacetic.printable import printable

_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_VALUE = 256


class Distro(Struct, frozen=True, kw_only=True):
    """The identity that matters to package managers."""

    id: str
    """Lower case, as in ID: debian, ubuntu, alpine."""
    id_like: tuple[str, ...]
    version_id: str
    codename: str
    pretty_name: str

    @classmethod
    def parse(cls, os_release: bytes) -> Distro:
        """Read os-release text. Raises `UnsupportedImageError` when it has no usable ID; odd lines are passed over."""
        values: dict[str, str] = {}
        for line in split_lines(os_release.decode("utf-8", "replace")):
            match = _ASSIGNMENT.fullmatch(line.strip())
            if match is not None and (value := _unquoted(match[2])) is not None:
                values[match[1]] = value[:_MAX_VALUE]
        identity = values.get("ID", "")
        if not _WORD.fullmatch(identity):
            raise UnsupportedImageError(f"etc/os-release has no usable ID, but {identity[:80]!r}")
        return cls(
            id=identity,
            id_like=tuple(word for word in values.get("ID_LIKE", "").split() if _WORD.fullmatch(word)),
            version_id=_word(values.get("VERSION_ID", "")),
            codename=_word(values.get("VERSION_CODENAME", "")),
            pretty_name=printable(values.get("PRETTY_NAME", "") or identity),
        )


def _unquoted(value: str) -> str | None:
    """Undo the shell's quoting, which is all that os-release(5) allows; None when that fails."""
    try:
        words = shlex.split(value)
    except ValueError:
        return None
    return "" if not words else words[0] if len(words) == 1 else None


def _word(value: str) -> str:
    return value if _WORD.fullmatch(value) else ""
