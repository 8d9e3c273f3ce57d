# SPDX-License-Identifier: Apache-2.0
"""
Documents about an outcome, by format, made before anything is published: one that can't be made publishes nothing.

A format is one row of `FORMATS` and one function from an outcome to bytes; OpenVEX, SBOM and provenance go here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from copacetic.loader import load
from copacetic.oci.referrers import Document
from copacetic.pipeline.outcome import Outcome

__all__ = ["FORMATS", "Format", "render", "write_json"]


class Format(Struct, frozen=True):
    """A kind of document."""

    media_type: str
    writer: str
    """`module:function`, imported when such a document is asked for."""
    attaches: bool = True
    """Whether it may stand beside an image: the same about the same image, whenever and wherever it is made."""


FORMATS: dict[str, Format] = {
    "json": Format("application/vnd.copacetic.outcome.v1+json", "copacetic.attest:write_json", attaches=False),
}


def render(outcome: Outcome, formats: Iterable[str]) -> Mapping[str, Document]:
    """Return the documents by format; every one of them is in `FORMATS`."""
    made = {}
    for name in formats:
        row = FORMATS[name]
        write: Callable[[Outcome], bytes] = load(row.writer)
        made[name] = Document(media_type=row.media_type, data=write(outcome))
    return made


def write_json(outcome: Outcome) -> bytes:
    """The outcome's own document (docs/reference/json.md)."""
    return outcome.to_json()
