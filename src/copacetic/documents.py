# SPDX-License-Identifier: Apache-2.0
"""How every JSON document is written, whatever it says."""

from __future__ import annotations

import json

import msgspec

__all__ = ["write_document"]


def write_document(document: object) -> bytes:
    """
    Encode any of our documents: indented for people, ending in a newline. What isn't printable is escaped, whoever it
    comes from: people look at documents on terminals.
    """
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    text = data.decode()
    odd = {ord(c): json.dumps(c)[1:-1] if ord(c) > 0x7F else "\\u007f" for c in set(text) if not c.isprintable()}
    odd.pop(ord("\n"), None)  # between values; in one it is escaped already
    return text.translate(odd).encode() if odd else data
