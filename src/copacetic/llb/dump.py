# SPDX-License-Identifier: Apache-2.0
"""
A graph as text for people: what will be fetched, run and kept, in the order in which it happens.

    graph for linux/amd64
    #1 image docker.io/library/debian:12            sha256:60d969e0bf93
    #2 exec "upgrade the packages"                  sha256:a8f9b032ccfb
         root     #1
         run      apt-get -y upgrade
         network  none
         mount    /var/lib/apt/lists  tmpfs, 64 MiB
    #3 diff from #1 to #2
    result: #3

Nothing secret is in it: contents of secrets are not part of a graph, and proxies, whose addresses may hold passwords,
are only said to be set.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from copacetic.llb.definition import Definition
from copacetic.llb.graph import (
    Bind,
    Copy,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    MakeDirectory,
    MakeFile,
    MergeOp,
    Mount,
    Network,
    Secret,
    SourceOp,
    State,
    Vertex,
)
from copacetic.llb.walk import sorted_mounts, walk
from copacetic.printable import printable

__all__ = ["dump"]

_WIDTH = 72


def dump(definition: Definition) -> str:
    """Return the text, with a newline at its end; control characters are shown, not sent."""
    numbers: dict[Vertex, str] = {}
    lines = [f"graph for {definition.platform}"]
    for vertex in walk(definition.state):
        numbers[vertex] = f"#{len(numbers) + 1}"
        digest = definition.vertices.get(vertex)
        title = printable(f"{numbers[vertex]} {_title(vertex, numbers)}")
        lines.append(f"{title:<{_WIDTH}} {str(digest)[:19]}" if digest else title)
        lines.extend(f"     {printable(f'{what:<8} {value}')}" for what, value in _details(vertex, numbers))
    lines.append(f"result: {_name(definition.state, numbers)}")
    return "\n".join(lines) + "\n"


def _name(state: State, numbers: Mapping[Vertex, str]) -> str:
    """Return how a filesystem is called: its vertex, and where it was mounted when it isn't the root."""
    if state.vertex is None:
        return "nothing"
    number = numbers[state.vertex]
    if state.output == 0 or not isinstance(state.vertex, ExecOp):
        return number
    return f"{number}:{_output_places(state.vertex)[state.output - 1]}"


def _output_places(op: ExecOp) -> list[str]:
    return [mount.dest for mount in op.mounts if isinstance(mount, Bind) and not mount.readonly]


def _title(vertex: Vertex, numbers: Mapping[Vertex, str]) -> str:
    name = f' "{vertex.name}"' if vertex.name else ""
    match vertex:
        case SourceOp():
            scheme, _, rest = vertex.identifier.partition("://")
            what = {"docker-image": "image", "oci-layout": "image of a layout", "local": "directory"}[scheme]
            return f"{what} {rest}{name}"
        case ExecOp():
            return f"exec{name}"
        case FileOp():
            return f"files{name}"
        case MergeOp():
            return f"merge {' + '.join(_name(one, numbers) for one in vertex.inputs)}{name}"
        case DiffOp():
            return f"diff from {_name(vertex.lower, numbers)} to {_name(vertex.upper, numbers)}{name}"


def _details(vertex: Vertex, numbers: Mapping[Vertex, str]) -> Iterator[tuple[str, str]]:
    match vertex:
        case SourceOp():
            yield from (("set", f"{key}={value}") for key, value in vertex.attributes)
        case ExecOp():
            yield "root", _name(vertex.root, numbers)
            yield "run", shlex.join(vertex.args)
            yield from (("env", shlex.quote(f"{key}={value}")) for key, value in vertex.env)
            if vertex.cwd != "/":
                yield "cwd", vertex.cwd
            if vertex.user:
                yield "user", vertex.user
            if vertex.network != Network.SANDBOX:
                yield "network", vertex.network.name.lower()
            if vertex.proxy:
                yield "proxy", "set"
            if vertex.valid_exit_codes:
                yield "accepts", f"exit codes {', '.join(map(str, vertex.valid_exit_codes))}"
            yield from (("mount", f"{mount.dest}  {_mount(mount, numbers)}") for mount in sorted_mounts(vertex))
        case FileOp():
            yield "root", _name(vertex.input, numbers)
            yield from (_action(action, numbers) for action in vertex.actions)
        case _:
            pass


def _mount(mount: Mount, numbers: Mapping[Vertex, str]) -> str:
    match mount:
        case Bind():
            source = "empty" if mount.source is None else _name(mount.source, numbers) + mount.selector
            return f"{source}, {'read-only' if mount.readonly else 'an output'}"
        case Secret():
            return f"secret {mount.id}, mode {mount.mode:o}{', optional' * mount.optional}"
        case _:
            return f"tmpfs, {mount.size / (1 << 20):g} MiB" if mount.size else "tmpfs"


def _action(action: FileAction, numbers: Mapping[Vertex, str]) -> tuple[str, str]:
    match action:
        case MakeDirectory():
            return "mkdir", f"{action.path}, mode {action.mode:o}"
        case MakeFile():
            return "write", f"{action.path}, {len(action.data)} bytes, mode {action.mode:o}"
        case Copy():
            return "copy", f"{_name(action.source, numbers)}{action.path} to {action.dest}"
