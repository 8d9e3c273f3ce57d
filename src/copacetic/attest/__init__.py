# SPDX-License-Identifier: Apache-2.0
"""
Documents about an outcome, by format.

A format is one function from an outcome to bytes, registered in `WRITERS` by its module path; OpenVEX, SBOM and
provenance go here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

__all__ = ["WRITERS", "find_writer"]


class _Outcome(Protocol):
    def to_json(self) -> bytes: ...


Writer = Callable[[Any], bytes]

WRITERS: Mapping[str, str] = {"json": "copacetic.attest:write_json"}


def find_writer(name: str) -> Writer | None:
    """Return the writer of a format, or None."""
    entry = WRITERS.get(name)
    if entry is None:
        return None
    module, _, function = entry.partition(":")
    writer: Writer = getattr(import_module(module), function)
    return writer


def write_json(outcome: _Outcome) -> bytes:
    """The outcome's own document (docs/reference/json.md)."""
    return outcome.to_json()
