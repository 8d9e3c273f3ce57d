# SPDX-License-Identifier: Apache-2.0
"""
One solve of one graph: vertices in their order, each once, with a result that an earlier solve may have left.

A result is known again by its operation and everything outside the graph that it depends on: the image that a name
leads to, the state of a directory.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from copacetic.errors import CopaError, SolverError
from copacetic.llb.definition import Definition
from copacetic.llb.graph import (
    Copy,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    MakeDirectory,
    MakeFile,
    MergeOp,
    SourceOp,
    State,
    Vertex,
)
from copacetic.llb.solver import Event, EventKind, Events, Inputs
from copacetic.llb.walk import inputs_of, walk
from copacetic.oci import Digest
from copacetic.oci.transport import Source
from copacetic.progress import Progress
from copacetic.worker.agent import JobRefusedError
from copacetic.worker.execution import Execution, Limits
from copacetic.worker.images import LayerUnpacker, ResolvedImage, resolve_image
from copacetic.worker.localsource import directory_state, directory_tar
from copacetic.worker.platforms import require_platform
from copacetic.worker.results import Outputs
from copacetic.worker.store import TREE
from copacetic.worker.workshop import Workshop

__all__ = ["GraphSolve"]

Layers = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class GraphSolve:
    """Raises `CopaError` for whatever goes wrong."""

    definition: Definition
    inputs: Inputs
    events: Events
    shop: Workshop
    limits: Limits
    open_image: Callable[[str], Source] | None
    progress: Progress
    _keys: dict[Vertex, str] = field(default_factory=dict)
    _images: dict[Vertex, ResolvedImage] = field(default_factory=dict)
    _outputs: dict[Vertex, Outputs] = field(default_factory=dict)

    def run(self) -> Layers:
        """Solve it, and return the layers of the result."""
        for vertex in walk(self.definition.state):
            self._visit(vertex)
        return self._find(self.definition.state)

    def _find(self, state: State) -> Layers:
        return () if state.vertex is None else self._outputs[state.vertex][state.output]

    def _visit(self, vertex: Vertex) -> None:
        results = self.shop.results
        try:
            key = self._keys[vertex] = self._key(vertex)
            with results.lock(key):
                outputs = results.get(key)
                if outputs is None:
                    self._tell(EventKind.STARTED, vertex)
                    outputs = self._solve(vertex)
                    results.put(key, outputs)
                    self._tell(EventKind.COMPLETED, vertex)
                else:
                    self._tell(EventKind.CACHED, vertex)
        except CopaError as error:
            self._tell(EventKind.FAILED, vertex, str(error))
            raise
        self._outputs[vertex] = outputs

    def _tell(self, kind: str, vertex: Vertex, text: str = "") -> None:
        digest = self.definition.vertices[vertex]
        self.events(Event(kind=kind, vertex=str(digest), name=_title(vertex), text=text))

    def _key(self, vertex: Vertex) -> str:
        parts = [str(self.definition.vertices[vertex])]
        if isinstance(vertex, SourceOp):
            parts.append(self._source_state(vertex))
        parts += [self._keys[one.vertex] for one in inputs_of(vertex) if one.vertex is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _source_state(self, vertex: SourceOp) -> str:
        scheme, _, rest = vertex.identifier.partition("://")
        if scheme in {"docker-image", "oci-layout"}:
            image = self._images[vertex] = self._resolve(vertex, scheme, rest)
            return str(image.descriptor.digest)
        if rest not in self.inputs.directories:
            raise SolverError(f"nobody offers the directory {rest!r}")
        return directory_state(self.inputs.directories[rest])

    def _resolve(self, vertex: SourceOp, scheme: str, rest: str) -> ResolvedImage:
        name, at, digest = rest.partition("@")
        if scheme == "oci-layout":
            store = dict(vertex.attributes).get("oci.store", "")
            source = self.inputs.images.get(store)
        else:
            source = self.inputs.images.get(rest)
            if source is None and self.open_image is not None:
                source = self.open_image(rest)
        if source is None:
            raise SolverError(f"nobody offers the image {name}")
        try:
            return resolve_image(source, self.definition.platform, digest=Digest.parse(digest) if at else None)
        except CopaError as error:
            if name in str(error):
                raise
            raise SolverError(f"{name}: {error}", hint=error.hint) from error

    def _solve(self, vertex: Vertex) -> Outputs:
        try:
            match vertex:
                case SourceOp():
                    return (self._source(vertex),)
                case ExecOp():
                    return self._execute(vertex)
                case FileOp():
                    return (self._files(vertex),)
                case MergeOp():
                    return (_merged([self._find(one) for one in vertex.inputs]),)
                case DiffOp():
                    return (self._difference(self._find(vertex.lower), self._find(vertex.upper)),)
        except JobRefusedError as error:
            raise SolverError(f"{_title(vertex)}: {error}") from error

    def _source(self, vertex: SourceOp) -> Layers:
        unpacker = LayerUnpacker(self.shop.agent, self.shop.store, self.shop.run)
        if vertex in self._images:
            layers, handles = unpacker.unpack(self._images[vertex], self.progress)
            self.shop.hold(handles)
            return tuple(str(path) for path in layers)
        target = self.shop.run.new_folder() / TREE
        plain = directory_tar(self.inputs.directories[vertex.identifier.partition("://")[2]])
        unpacker.fill(plain, target, [], what=vertex.identifier)
        return (str(target),)

    def _execute(self, vertex: ExecOp) -> Outputs:
        require_platform(self.definition.platform, self.shop.agent.facts["emulates"])
        return Execution(
            op=vertex,
            title=_title(vertex),
            architecture=self.definition.platform.architecture,
            agent=self.shop.agent,
            store=self.shop.store,
            run=self.shop.run,
            inputs=self.inputs,
            limits=self.limits,
            find=self._find,
            say=lambda text: self._tell(EventKind.LOG, vertex, text),
            remove=self.shop.remove,
        ).start()

    def _files(self, vertex: FileOp) -> Layers:
        below = self._find(vertex.input)
        target = str(self.shop.run.new_folder())
        actions = [self._action(action) for action in vertex.actions]
        request = {"layers": below, "target": target, "actions": actions, "single": self.shop.agent.mode.single}
        self.shop.agent.do("files", request)
        return (*below, target)

    def _action(self, action: FileAction) -> Mapping[str, Any]:
        match action:
            case MakeDirectory():
                do = {"do": "make-directory", "mode": action.mode, "parents": action.parents}
            case MakeFile():
                do = {"do": "make-file", "mode": action.mode, "data": base64.b64encode(action.data).decode("ascii")}
            case Copy():
                layers = self._find(action.source)
                do = {"do": "copy", "dest": action.dest, "layers": layers, "contents": action.contents_only}
        return {**do, "path": action.path}

    def _difference(self, lower: Layers, upper: Layers) -> Layers:
        if upper[: len(lower)] == lower:
            return upper[len(lower) :]
        target = str(self.shop.run.new_folder())
        request = {"lower": lower, "upper": upper, "target": target, "single": self.shop.agent.mode.single}
        self.shop.agent.do("difference", request)
        return (target,)


def _merged(stacks: Sequence[Layers]) -> Layers:
    """One above the other. Of a layer that comes twice only the upper one counts: it brings all the lower one does."""
    layers = [layer for stack in stacks for layer in stack]
    return tuple(layer for position, layer in enumerate(layers) if layer not in layers[position + 1 :])


def _title(vertex: Vertex) -> str:
    if vertex.name:
        return vertex.name
    match vertex:
        case SourceOp():
            return vertex.identifier
        case ExecOp():
            return " ".join(vertex.args)[:120]
        case FileOp():
            return "file operations"
        case MergeOp():
            return "merge"
        case DiffOp():
            return "diff"
