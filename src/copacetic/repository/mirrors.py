# SPDX-License-Identifier: Apache-2.0
"""Mirrors that the user names in the place of a repository's own address."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["select_mirror"]


def select_mirror(uri: str, mirrors: Sequence[tuple[str, str]]) -> str:
    """Return an address with its beginning replaced; of several prefixes that fit the longest counts."""
    for old, new in sorted(mirrors, key=lambda pair: -len(pair[0])):
        prefix = old.rstrip("/")
        if uri == prefix or uri.startswith(f"{prefix}/"):
            return new.rstrip("/") + uri[len(prefix) :]
    return uri
