# SPDX-License-Identifier: Apache-2.0
"""The order in which a graph is written, shown and solved: every vertex once, inputs before those that use them."""

from __future__ import annotations

from collections.abc import Iterator

from copacetic.llb.graph import Bind, Copy, DiffOp, ExecOp, FileOp, MergeOp, Mount, SourceOp, State, Vertex

__all__ = ["inputs_of", "sorted_mounts", "walk"]


def walk(state: State) -> Iterator[Vertex]:
    """Yield the vertices that a state is made from, its own one last. Works for graphs of any depth."""
    if state.vertex is None:
        return
    done: set[Vertex] = set()
    stack = [(state.vertex, iter(inputs_of(state.vertex)))]
    while stack:
        vertex, rest = stack[-1]
        for one in rest:
            if one.vertex is not None and one.vertex not in done:
                stack.append((one.vertex, iter(inputs_of(one.vertex))))
                break
        else:
            stack.pop()
            if vertex not in done:
                done.add(vertex)
                yield vertex


def inputs_of(vertex: Vertex) -> tuple[State, ...]:
    """Return the filesystems that a vertex takes, empty ones included."""
    match vertex:
        case SourceOp():
            return ()
        case ExecOp():
            binds = (mount for mount in sorted_mounts(vertex) if isinstance(mount, Bind))
            return (vertex.root, *(bind.source for bind in binds if bind.source is not None))
        case FileOp():
            return (vertex.input, *(action.source for action in vertex.actions if isinstance(action, Copy)))
        case MergeOp():
            return vertex.inputs
        case DiffOp():
            return (vertex.lower, vertex.upper)


def sorted_mounts(op: ExecOp) -> tuple[Mount, ...]:
    """Return the mounts in the order in which they are made: a directory before what is mounted in it."""
    return tuple(sorted(op.mounts, key=lambda mount: mount.dest))
