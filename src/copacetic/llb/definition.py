# SPDX-License-Identifier: Apache-2.0
"""A marshalled graph: what goes over the wire, and the graph it came from for solvers in this process."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from copacetic.llb.graph import State, Vertex
from copacetic.oci import Digest, Platform

__all__ = ["Definition"]


class Definition(Struct, frozen=True, kw_only=True):
    """
    Operations in an order in which inputs come first; the last one only names the result.

    The empty filesystem's definition has no operations.
    """

    state: State
    platform: Platform
    operations: tuple[bytes, ...]
    """`pb.Op` messages, serialised deterministically."""
    digests: tuple[Digest, ...]
    """Of each operation's bytes: a vertex's name everywhere."""
    metadata: Mapping[Digest, bytes]
    """`pb.OpMetadata` messages by operation."""
    vertices: Mapping[Vertex, Digest] = {}
    """The digest of every vertex of the graph; vertices that are the same operation share one."""
