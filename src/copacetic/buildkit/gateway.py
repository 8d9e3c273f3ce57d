# SPDX-License-Identifier: Apache-2.0
"""The gateway: solve a graph inside a job, and look into the result without moving it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from copacetic.buildkit import schema
from copacetic.buildkit.build import Build
from copacetic.buildkit.session import parse
from copacetic.errors import SolverError
from copacetic.llb.definition import Definition
from copacetic.llb.marshal import message_of

__all__ = ["Gateway", "SolvedReference"]

PIECE = 1 << 20
"""Bytes of a file that are read at once; builders refuse messages of 16 MiB, old ones of 4."""


class Gateway:
    """Calls of one job that was started without a definition."""

    def __init__(self, build: Build) -> None:
        self._build = build

    def ping(self) -> Any:
        """Return the builder's capabilities."""
        return parse(schema.gateway().PongResponse, self._build.call("Ping", schema.gateway().PingRequest()))

    def solve(self, definition: Definition) -> SolvedReference:
        """Solve, completely. Raises `SolverError`."""
        request = schema.gateway().SolveRequest(
            definition=message_of(definition), allow_result_return=True, allow_result_array_ref=True, evaluate=True
        )
        response = parse(schema.gateway().SolveResponse, self._build.call("Solve", request))
        return SolvedReference(self._build, response.result.ref.id)

    def leave(self) -> None:
        """End the job well, with nothing to export."""
        request = schema.gateway().ReturnRequest()
        request.result.SetInParent()
        self._build.call("Return", request)
        self._build.finish()


class SolvedReference:
    """A solved filesystem on the builder, by its id; the empty one has none."""

    def __init__(self, build: Build, reference: str) -> None:
        self._build = build
        self._reference = reference

    def list(self, path: bytes) -> Sequence[Any]:
        """Return the `Stat`s of what is in a directory, by its canonical path."""
        if not self._reference:
            return ()
        request = schema.gateway().ReadDirRequest(ref=self._reference, path=path)
        return tuple(parse(schema.gateway().ReadDirResponse, self._build.call("ReadDir", request)).entries)

    def read(self, path: bytes, size: int) -> bytes:
        """Return the first `size` bytes of a file, by its canonical path."""
        data = bytearray()
        while len(data) < size:
            request = schema.gateway().ReadFileRequest(ref=self._reference, path=path)
            request.range.offset, request.range.length = len(data), min(PIECE, size - len(data))
            piece = parse(schema.gateway().ReadFileResponse, self._build.call("ReadFile", request)).data
            if not piece:
                break
            if len(piece) > request.range.length:
                raise SolverError("the builder returned more of a file than it was asked for")
            data += piece
        return bytes(data)
