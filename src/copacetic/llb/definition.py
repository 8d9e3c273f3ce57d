# SPDX-License-Identifier: Apache-2.0
"""A marshalled graph: what goes over the wire, and the graph it came from for solvers in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from copacetic.llb.graph import State
from copacetic.oci import Digest, Platform

__all__ = ["Definition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Operations in an order in which inputs come first; the last one names the result."""

    state: State
    platform: Platform
    operations: tuple[bytes, ...]
    """`pb.Op` messages, serialised deterministically."""
    digests: tuple[Digest, ...]
    """Of each operation's bytes: a vertex's name everywhere."""
    metadata: Mapping[Digest, bytes]
    """`pb.OpMetadata` messages by operation."""
