# SPDX-License-Identifier: Apache-2.0
"""
A solver that solves nothing: what it answers is a test's business, and what it was asked stays to be looked at.

It stands at the seam itself, so that what comes before and after a solve can be tested where nothing may be run, and
so that a builder can be made to lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from copacetic.errors import SolverError
from copacetic.llb.definition import Definition
from copacetic.llb.solver import Capabilities, Event, EventKind, Events, ExportedLayer, Inputs, Solved, Solver
from copacetic.oci import Digest
from copacetic.oci.manifest import OCI_LAYER
from support.image.images import TarItem, make_tar

Answer = Callable[[Definition, Inputs], Sequence[bytes]]
"""Returns plain layers, the lowest first, or raises."""


class FakeSolver:
    """A `Solver`; `answer` gives the layers of every export."""

    def __init__(self, answer: Answer, *, capabilities: Capabilities | None = None) -> None:
        self.answer = answer
        self.definitions: list[Definition] = []
        self.inputs: list[Inputs] = []
        self.closed = False
        self._capabilities = capabilities or Capabilities(name="fake")

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def solve(self, definition: Definition, inputs: Inputs, events: Events) -> AbstractContextManager[Solved]:
        raise SolverError("the fake exports only")

    def export(
        self, definition: Definition, inputs: Inputs, events: Events, *, folder: Path
    ) -> tuple[ExportedLayer, ...]:
        self.definitions.append(definition)
        self.inputs.append(inputs)
        events(Event(kind=EventKind.STARTED, vertex="sha256:1", name="run \x1b[2J something"))
        events(Event(kind=EventKind.LOG, vertex="sha256:1", name="run", text="hello\n\x1b[31mred"))
        layers = [_write(folder / str(n), data) for n, data in enumerate(self.answer(definition, inputs))]
        events(Event(kind=EventKind.COMPLETED, vertex="sha256:1", name="run"))
        return tuple(layers)

    def close(self) -> None:
        self.closed = True


def _write(path: Path, data: bytes) -> ExportedLayer:
    path.write_bytes(data)
    return ExportedLayer(path=path, media_type=OCI_LAYER, digest=Digest.of(data), size=len(data))


def plain_layer(*items: TarItem) -> bytes:
    """A plain tar of `support.image.images.tar_file` items."""
    return make_tar(items)


_: type[Solver] = FakeSolver
