# SPDX-License-Identifier: Apache-2.0
"""
The JSON of images, read so that everybody reads the same in it.

Go's readers, which are most of those of images, take the last of two texts with one name, mix two objects, and take a
name in other letters (`Layers`) for the same field; they refuse a number where a text belongs. A document that depends
on any of it is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from copacetic.errors import ImageError

DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes of a manifest, an index or a config: what a registry has to take (distribution-spec); few have 100,000."""


def decode_json(raw: bytes, what: str, limit: int = DOCUMENT_LIMIT) -> Any:
    """
    Raises `ImageError`, also for an object or a list whose name is there twice: Go mixes both.

    A broken character is U+FFFD, as Go has it.
    """
    if len(raw) > limit:
        raise ImageError(f"{what} has {len(raw)} bytes, the limit is {limit}")

    def unmixed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            for name, value in pairs:
                if counts[name] > 1 and isinstance(value, dict | list):
                    raise ImageError(f"{what} has {name[:100]!r} more than once, which makes it ambiguous")
        return document

    try:
        return json.loads(raw.decode(json.detect_encoding(raw), "replace"), object_pairs_hook=unmixed)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not JSON: {error}") from error


def refuse_lookalikes(document: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    """Raise `ImageError` for a field that is one of these but for the case of its letters."""
    known = {name.casefold(): name for name in names}
    for name in document:
        if known.get(name.casefold(), name) != name:
            raise ImageError(f"{what} has {name[:100]!r}, which some readers take for {known[name.casefold()]!r}")


def text_field(document: Mapping[str, Any], name: str, what: str) -> str:
    """Return a text, empty where there is none. Raises `ImageError` for anything else."""
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageError(f"{what} has an unusable {name}")
    return value


def text_fields(value: object, what: str) -> dict[str, str]:
    """Read an object whose values are texts, empty where there is none. Raises `ImageError` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ImageError(f"{what} are unusable")
    return {name: text_field(value, name, what) for name in value}
