# SPDX-License-Identifier: Apache-2.0
"""
The graph: vertices, and `State`, one filesystem that a vertex gives.

Vertices compare by identity; two graphs are the same when their definitions are (`State.marshal`). The words and
their meaning are those of BuildKit's `pb.Op` (solver/pb/ops.proto).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from copacetic.oci import Digest, Platform

if TYPE_CHECKING:
    from copacetic.llb.definition import Definition


class Network(IntEnum):
    """What network a process sees."""

    SANDBOX = 0
    """The solver's default."""
    NONE = 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Bind:
    """Another filesystem (None: an empty one) at `dest`; a writable one is an output, see `ExecState.output`."""

    dest: str
    source: State | None
    selector: str = ""
    """A path inside `source`; a file is mounted as a file."""
    readonly: bool = True


class Tmpfs(Struct, frozen=True, kw_only=True):
    """Memory that goes with the run; `size` in bytes, 0 for no limit."""

    dest: str
    size: int = 0


class Secret(Struct, frozen=True, kw_only=True):
    """A file whose content the client hands over while solving (`Inputs.secrets`); it is in no layer and no key."""

    dest: str
    id: str
    mode: int = 0o400
    optional: bool = False


Mount = Bind | Tmpfs | Secret


class ProxyEnv(Struct, frozen=True, kw_only=True):
    """Proxies that a process sees, and that are no part of the cache key."""

    http: str = ""
    https: str = ""
    no: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SourceOp:
    """Something from outside, by a scheme that the solver knows: docker-image, oci-layout, local."""

    identifier: str
    attributes: tuple[tuple[str, str], ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExecOp:
    """One process, its root filesystem being output 0; writable binds follow in their order."""

    root: State
    args: tuple[str, ...]
    """Never a shell's text."""
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    network: Network = Network.SANDBOX
    proxy: ProxyEnv | None = None
    valid_exit_codes: tuple[int, ...] = ()
    """Those that mean success; just 0 when there are none."""
    name: str = ""


class MakeDirectory(Struct, frozen=True, kw_only=True):
    """mkdir, as root; its time is the epoch."""

    path: str
    mode: int = 0o755
    parents: bool = False


class MakeFile(Struct, frozen=True, kw_only=True):
    """Write a file of at most a few hundred kilobytes, which travel in the graph, as root; its time is the epoch."""

    path: str
    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Copy:
    """cp -a from another filesystem; directories above `dest` are made."""

    source: State
    path: str
    dest: str
    contents_only: bool = False


FileAction = MakeDirectory | MakeFile | Copy


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FileOp:
    """Changes to files without running anything, one after the other; output 0 is the result."""

    input: State
    actions: tuple[FileAction, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MergeOp:
    """Filesystems on top of each other, the last one uppermost."""

    inputs: tuple[State, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DiffOp:
    """What turns `lower` into `upper`."""

    lower: State
    upper: State
    name: str = ""


Vertex = SourceOp | ExecOp | FileOp | MergeOp | DiffOp


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One filesystem: an output of a vertex, or the empty one (`vertex` is None)."""

    vertex: Vertex | None
    output: int = 0

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "",
        hostname: str = "",
        mounts: Sequence[Mount] = (),
        network: Network = Network.SANDBOX,
        proxy: ProxyEnv | None = None,
        valid_exit_codes: Sequence[int] = (),
        name: str = "",
    ) -> ExecState:
        """Run a program in this filesystem."""
        return ExecState(
            ExecOp(
                root=self,
                args=tuple(args),
                env=tuple(sorted((env or {}).items())),
                cwd=cwd,
                user=user,
                hostname=hostname,
                mounts=tuple(mounts),
                network=network,
                proxy=proxy,
                valid_exit_codes=tuple(valid_exit_codes),
                name=name,
            )
        )

    def file(self, *actions: FileAction, name: str = "") -> State:
        """Change files without running anything."""
        return State(FileOp(input=self, actions=actions, name=name))

    def marshal(self, platform: Platform, *, unique: str = "") -> Definition:
        """
        Write the graph down: the same bytes and digests for the same graph, always.

        `unique` keeps client directories of different clients apart while they are solved at once; a solver sets it.
        Raises `SolverError` for a graph that no solver can take: a relative path, a program without a name, two mounts
        at one place.
        """
        from copacetic.llb.marshal import marshal

        return marshal(self, platform, unique=unique)


@dataclass(frozen=True, slots=True, eq=False)
class ExecState:
    """A process's results."""

    op: ExecOp

    @property
    def root(self) -> State:
        """The root filesystem afterwards."""
        return State(self.op, 0)

    def output(self, dest: str) -> State:
        """Return what a writable bind at `dest` holds afterwards. Raises `KeyError` when there is none."""
        outputs = [m.dest for m in self.op.mounts if isinstance(m, Bind) and not m.readonly]
        if dest not in outputs:
            raise KeyError(dest)
        return State(self.op, 1 + outputs.index(dest))


def scratch() -> State:
    """The empty filesystem."""
    return State(None)


def image(reference: str) -> State:
    """An image of a registry; `reference` must be canonical (host, tag or digest): solvers don't normalise it."""
    return State(SourceOp(identifier=f"docker-image://{reference}"))


def oci_layout(name: str, digest: Digest, *, store: str) -> State:
    """An image that the client serves from `Inputs.images[store]`; `name` is a host/repository for messages."""
    return State(SourceOp(identifier=f"oci-layout://{name}@{digest}", attributes=(("oci.store", store),)))


def local(name: str, *, shared_key: str = "") -> State:
    """A directory of the client's (`Inputs.directories[name]`); owners become root."""
    attributes = (("local.sharedkeyhint", shared_key),) if shared_key else ()
    return State(SourceOp(identifier=f"local://{name}", attributes=attributes))


def merge(states: Sequence[State]) -> State:
    """Put filesystems on top of each other; empty ones vanish."""
    inputs = tuple(state for state in states if state.vertex is not None)
    if not inputs:
        return scratch()
    return inputs[0] if len(inputs) == 1 else State(MergeOp(inputs=inputs))


def diff(lower: State, upper: State) -> State:
    """Return what turns `lower` into `upper`; from the empty filesystem, that is `upper` itself."""
    return upper if lower.vertex is None else State(DiffOp(lower=lower, upper=upper))
