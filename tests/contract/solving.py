# SPDX-License-Identifier: Apache-2.0
"""What the cases share: solve a graph and look at the result as plain values."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from copacetic import llb
from copacetic.llb.graph import Mount
from copacetic.llb.solver import Event, EventKind, Inputs, Solver
from copacetic.oci import Platform
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from support.builder.builder import BASE as BASE_NAME

AMD64 = Platform.parse("linux/amd64")
PATH = {"PATH": "/bin"}


def base() -> llb.State:
    return llb.image(BASE_NAME)


def shell(
    script: str, *, on: llb.State | None = None, mounts: Sequence[Mount] = (), **options: Any
) -> llb.graph.ExecState:
    """Run a shell's script in the base image, with no network."""
    options = {"env": PATH, "network": llb.Network.NONE, "name": "a script", **options}
    return (base() if on is None else on).run(["/bin/sh", "-euc", script], mounts=mounts, **options)


@dataclass
class Recorder:
    """Listens to a solve."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self, name: str) -> set[str]:
        return {event.kind for event in self.events if event.name == name}

    def output(self, name: str) -> str:
        return "".join(event.text for event in self.events if event.name == name and event.kind == EventKind.LOG)


def read(solver: Solver, state: llb.State, *paths: str, inputs: Inputs | None = None) -> list[str]:
    """Return the text of files of a result."""
    with solver.solve(state.marshal(AMD64), inputs or Inputs(), Recorder()) as result:
        return [result.filesystem.read(path, limit=1 << 20).decode() for path in paths]


def tree(solver: Solver, state: llb.State, *, below: str = "", inputs: Inputs | None = None) -> dict[str, str]:
    """Return everything below a path: what it is, whose, and what is in it."""
    with solver.solve(state.marshal(AMD64), inputs or Inputs(), Recorder()) as result:
        return {path: describe(result.filesystem, path, entry) for path, entry in result.filesystem.walk(below)}


def describe(fs: ImageFilesystem, path: str, entry: Entry) -> str:
    owner = f"{entry.mode:o} {entry.uid}:{entry.gid}"
    match entry.type:
        case FileType.FILE:
            return f"file {owner} {fs.read(path, limit=1 << 24).decode('utf-8', 'replace')}"
        case FileType.SYMLINK:
            return f"link {entry.target}"
        case _:
            return f"{entry.type.value} {owner}"


def exported(solver: Solver, state: llb.State, folder: Path, *, inputs: Inputs | None = None) -> list[str]:
    """Export a state, check its layers against their digests, and return their members' paths, lowest layer first."""
    folder.mkdir()
    layers = solver.export(state.marshal(AMD64), inputs or Inputs(), Recorder(), folder=folder)
    assert {layer.path for layer in layers} == set(folder.iterdir()), "something else was left in the folder"
    paths = []
    for layer in layers:
        data = layer.path.read_bytes()
        layer_digest = layer.digest.hasher()
        layer_digest.update(data)
        assert (layer_digest.hexdigest(), len(data)) == (layer.digest.encoded, layer.size)
        assert layer.media_type == "application/vnd.oci.image.layer.v1.tar"
        with tarfile.open(layer.path, "r:") as archive:
            paths += [member.name.rstrip("/") for member in archive]
    return paths
