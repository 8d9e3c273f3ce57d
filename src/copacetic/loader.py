# SPDX-License-Identifier: Apache-2.0
"""What tables name as text (`package.module:Name`), so that only what is used is imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["load"]


def load(entry: str) -> Any:
    """Return what an entry names (a whole module without a colon). Raises `ImportError` or `AttributeError`."""
    module, _, name = entry.partition(":")
    found = import_module(module)
    return getattr(found, name) if name else found
