# SPDX-License-Identifier: Apache-2.0
"""Text from anywhere, made safe for a terminal, a log and whoever prints a document's values."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Make control characters (C1 and those that turn the direction among them) visible, so that none has an effect."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
