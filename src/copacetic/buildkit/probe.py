# SPDX-License-Identifier: Apache-2.0
"""What became of looking for builders: values, for decisions, tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from copacetic.documents import write_document
from copacetic.llb.solver import Capabilities

__all__ = ["BuilderReport", "Probe", "ProbeState"]


class ProbeState(StrEnum):
    """How it went."""

    USABLE = "usable"
    LACKING = "lacking"
    """It answers, and can't merge and diff."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """There was no reason to try."""


class Probe(Struct, frozen=True, kw_only=True):
    """One attempt to reach one builder."""

    address: str
    origin: str
    """Who named it: a flag, a variable, or `default`."""
    place: str = ""
    """What the address stands for on this machine."""
    state: ProbeState
    capabilities: Capabilities | None = None
    """Of a builder that answered."""
    reason: str = ""
    """Why it isn't usable; one line."""
    fix: str = ""
    """What to do about that."""

    def to_document(self) -> Mapping[str, Any]:
        """Return the object of docs/reference/json.md."""
        capabilities = self.capabilities
        return {
            "address": self.address,
            "origin": self.origin,
            "place": self.place,
            "state": str(self.state),
            "version": capabilities.version if capabilities else None,
            "platforms": [str(platform) for platform in capabilities.platforms] if capabilities else [],
            "mergeDiff": capabilities.merge_diff if capabilities else None,
            "reason": self.reason,
            "fix": self.fix,
        }


class BuilderReport(Struct, frozen=True, kw_only=True):
    """All attempts, in the order in which a run would make them."""

    probes: tuple[Probe, ...]

    @property
    def chosen(self) -> Probe | None:
        """The one that a run would use."""
        return next((probe for probe in self.probes if probe.state is ProbeState.USABLE), None)

    def to_json(self) -> bytes:
        """Return the documented object (docs/reference/json.md), ending in a newline."""
        chosen = self.chosen
        return write_document(
            "builders",
            {
                "chosen": chosen.address if chosen else None,
                "builders": [probe.to_document() for probe in self.probes],
            },
        )
