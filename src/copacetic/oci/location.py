# SPDX-License-Identifier: Apache-2.0
"""Where an image is, read from text: a reference for registries, a transport's prefix and a place for all else."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from copacetic.errors import InvalidReferenceError
from copacetic.oci.reference import Reference
from copacetic.oci.transport import Destination, Source
from copacetic.oci.transports import REGISTRY, TRANSPORTS, UNSUPPORTED, Clients, Transport, list_forms

_PREFIXES = sorted(
    ((prefix, transport) for transport in TRANSPORTS for prefix in transport.prefixes),
    key=lambda row: len(row[0]),
    reverse=True,
)


class Location(Struct, frozen=True):
    """A place, and the transport to whose kind it belongs; `Location.parse(str(location)) == location`."""

    transport: Transport[Any]
    place: Any

    @classmethod
    def parse(cls, text: str) -> Location:
        """Raises `InvalidReferenceError`."""
        try:
            prefix, transport = _select(text)
            return cls(transport, transport.parse(text[len(prefix) :], text))
        except InvalidReferenceError as error:
            error.hint = f"write {list_forms('[registry/]repository[:tag][@digest]')}"
            raise

    @classmethod
    def in_registry(cls, reference: Reference) -> Location:
        return cls(REGISTRY, reference)

    @property
    def reference(self) -> Reference | None:
        """By what a registry has the image; None where no registry has it."""
        return self.place if self.transport is REGISTRY else None

    def open_source(self, clients: Clients) -> Source:
        return self.transport.open_source(self.place, clients)

    def open_destination(self, clients: Clients) -> Destination:
        return self.transport.open_destination(self.place, clients)

    def __str__(self) -> str:
        return f"{self.transport.prefixes[0]}{self.place}"


def _select(text: str) -> tuple[str, Transport[Any]]:
    for prefix in UNSUPPORTED:
        if text.startswith(prefix):
            raise InvalidReferenceError(f"{text[:200]!r}: the transport {prefix} is not supported")
    return next(row for row in _PREFIXES if text.startswith(row[0]))
