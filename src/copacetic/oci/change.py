# SPDX-License-Identifier: Apache-2.0
"""One change of a tree, as a layer records it: the values that `layerwriter` turns into a tar stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from copacetic.oci.filesystem import Entry

__all__ = ["RESERVED_PREFIX", "Change", "Changes", "NamedEffect", "Spooled", "is_reserved"]

RESERVED_PREFIX = ".wh."


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file's bytes somewhere in a local file: a window of a decompressed payload, in bytes."""

    path: Path
    offset: int
    size: int
    digests: Mapping[str, str] = field(default_factory=dict, compare=False)
    """By algorithm, in hexadecimal: those that were taken as the bytes came by; often none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path of a new layer."""

    path: str
    """Canonical: its parent directories are real directories, in the image or among the changes."""
    entry: Entry | None
    """None removes what the image has at this path (a whiteout)."""
    content: bytes | Spooled | None = None
    """A regular file's bytes; None for other types, and for a further name of a file (see `hardlink`)."""
    hardlink: str = ""
    """The path, earlier in the layer, of which this is another name; empty for a first name."""


@dataclass(frozen=True, slots=True)
class NamedEffect:
    """Something in a layer that no package ships: who wanted it, and what it is to be (None: gone)."""

    name: str
    entry: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A finished set of changes, sorted so that parents and link targets come first."""

    entries: tuple[Change, ...]
    unchanged: Mapping[str, bytes | Spooled] = field(default_factory=dict)
    """Content that was asked for and left out, because the image has the same at this path already."""
    effects: Mapping[str, NamedEffect] = field(default_factory=dict)
    """What was done in somebody's name; see `TreeBuilder.in_name_of`."""


def is_reserved(path: str) -> bool:
    """Tell whether a component of a path has a name that a layer keeps for what it takes away (a whiteout's)."""
    return RESERVED_PREFIX in path and (path.startswith(RESERVED_PREFIX) or f"/{RESERVED_PREFIX}" in path)
