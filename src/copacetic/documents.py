# SPDX-License-Identifier: Apache-2.0
"""
How every JSON document is written, whatever it says.

Each kind has a JSON Schema beside docs/reference/json.md. The schema version rises when a field goes away or changes
its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

__all__ = ["SCHEMA_VERSION", "encode", "write_document"]

SCHEMA_VERSION = 1
"""Of every kind, so far."""


def write_document(kind: str, fields: Mapping[str, object]) -> bytes:
    """Encode the fields of one document as such; `kind` is its name without `copacetic.`."""
    return encode({"schemaVersion": SCHEMA_VERSION, "kind": f"copacetic.{kind}", **fields})


def encode(document: Mapping[str, object]) -> bytes:
    """
    Encode any of our documents: indented for people, ending in a newline. What isn't printable is escaped, whoever it
    comes from: people look at documents on terminals.
    """
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    text = data.decode()
    odd = {ord(c): json.dumps(c)[1:-1] if ord(c) > 0x7F else "\\u007f" for c in set(text) if not c.isprintable()}
    odd.pop(ord("\n"), None)  # between values; in one it is escaped already
    return text.translate(odd).encode() if odd else data
