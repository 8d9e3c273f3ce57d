# SPDX-License-Identifier: Apache-2.0
"""
From a graph to a definition: `pb.Op` messages named by their digests, byte for byte as BuildKit's own client has them.

The same graph gives the same bytes everywhere: maps are sorted, mounts are sorted by their place, and no clock, no
session and no address of this process is in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from copacetic.llb.check import check
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
    Tmpfs,
    Vertex,
)
from copacetic.llb.schema import pb
from copacetic.llb.walk import sorted_mounts, walk
from copacetic.oci import Digest, Platform

__all__ = ["encode", "marshal", "message_of"]

_EMPTY = -1
"""Instead of an input's index: an empty filesystem."""
_NO_OUTPUT = -1
_SECRET, _TMPFS = 1, 4
"""`pb.MountType`; a bind is 0."""
_SOURCE_CAPS = {
    "docker-image": "source.image",
    "oci-layout": "source.ocilayout",
    "local": "source.local",
}
_ATTRIBUTE_CAPS = {
    "local.sharedkeyhint": "source.local.sharedkeyhint",
    "local.unique": "source.local.unique",
}
_PLATFORM_SCHEMES = ("docker-image", "oci-layout")


def marshal(state: State, platform: Platform, *, unique: str = "") -> Definition:
    """Raises `SolverError` for a graph that no solver can take. See `State.marshal`."""
    writer = _Writer(platform=platform, unique=unique)
    for vertex in walk(state):
        check(vertex)
        writer.add(vertex)
    if state.vertex is not None:
        writer.finish(state)
    return Definition(
        state=state,
        platform=platform,
        operations=tuple(writer.operations.values()),
        digests=tuple(writer.operations),
        metadata={digest: _serialise(message) for digest, message in writer.metadata.items()},
        vertices=writer.digests,
    )


def encode(definition: Definition) -> bytes:
    """Return the `pb.Definition` message: what goes to a builder, and what `buildctl build` takes."""
    return _serialise(message_of(definition))


def message_of(definition: Definition) -> Any:
    """Return the `pb.Definition` message as an object."""
    message = pb().Definition()
    getattr(message, "def").extend(definition.operations)
    for digest, metadata in definition.metadata.items():
        message.metadata[str(digest)].MergeFromString(metadata)
    return message


def _serialise(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _serialise_operation(op: Any) -> bytes:
    """Go writes the member of a oneof after all other fields; protobuf here by its number. Digests are over Go's."""
    kind = op.WhichOneof("op")
    if kind is None:
        return _serialise(op)
    rest, body = pb().Op(), pb().Op()
    rest.CopyFrom(op)
    rest.ClearField(kind)
    getattr(body, kind).CopyFrom(getattr(op, kind))
    return _serialise(rest) + _serialise(body)


@dataclass(slots=True, kw_only=True)
class _Writer:
    platform: Platform
    unique: str
    operations: dict[Digest, bytes] = field(default_factory=dict)
    metadata: dict[Digest, Any] = field(default_factory=dict)
    digests: dict[Vertex, Digest] = field(default_factory=dict)
    caps: set[str] = field(default_factory=set)
    """Of the vertex that is being written."""

    def add(self, vertex: Vertex) -> None:
        """Write one vertex whose inputs are written; equal ones become one."""
        self.caps = set()
        op = pb().Op()
        op.constraints.SetInParent()
        match vertex:
            case SourceOp():
                self._source(op, vertex)
            case ExecOp():
                self._exec(op, vertex)
            case FileOp():
                self._file(op, vertex)
            case MergeOp():
                self._merge(op, vertex)
            case DiffOp():
                self._diff(op, vertex)
        digest = self._store(op)
        self.digests[vertex] = digest
        metadata = self.metadata[digest]
        for cap in self.caps:
            metadata.caps[cap] = True
        if vertex.name and "llb.customname" not in metadata.description:
            metadata.description["llb.customname"] = vertex.name

    def finish(self, state: State) -> None:
        """Write the last operation, which only names the result."""
        op = pb().Op()
        self._input(op, state)
        caps = {"constraints", "platform"}
        caps.update("meta.description" for message in self.metadata.values() if message.description)
        digest = self._store(op)
        for cap in caps:
            self.metadata[digest].caps[cap] = True

    def _store(self, op: Any) -> Digest:
        data = _serialise_operation(op)
        digest = Digest.of(data)
        self.operations.setdefault(digest, data)
        self.metadata.setdefault(digest, pb().OpMetadata())
        return digest

    def _input(self, op: Any, state: State, *, share: bool = True) -> int:
        """Add an edge and return its index; the empty filesystem has none."""
        if state.vertex is None:
            return _EMPTY
        digest, output = str(self.digests[state.vertex]), _wire_output(state)
        if share:
            for position, present in enumerate(op.inputs):
                if (present.digest, present.index) == (digest, output):
                    return position
        op.inputs.add(digest=digest, index=output)
        return len(op.inputs) - 1

    def _set_platform(self, op: Any) -> None:
        op.platform.architecture, op.platform.os = self.platform.architecture, self.platform.os
        op.platform.variant, op.platform.os_version = self.platform.variant, self.platform.os_version
        op.platform.os_features.extend(self.platform.os_features)

    def _source(self, op: Any, vertex: SourceOp) -> None:
        scheme = vertex.identifier.partition("://")[0]
        attributes = dict(vertex.attributes)
        if scheme == "local" and self.unique:
            attributes["local.unique"] = self.unique
        op.source.identifier = vertex.identifier
        op.source.attrs.update(attributes)
        self.caps.add(_SOURCE_CAPS[scheme])
        self.caps.update(_ATTRIBUTE_CAPS[name] for name in attributes if name in _ATTRIBUTE_CAPS)
        if scheme in _PLATFORM_SCHEMES:
            self._set_platform(op)

    def _exec(self, op: Any, vertex: ExecOp) -> None:
        self._set_platform(op)
        meta = op.exec.meta
        meta.args.extend(vertex.args)
        meta.env.extend(f"{name}={value}" for name, value in vertex.env)
        meta.cwd, meta.user, meta.hostname = vertex.cwd, vertex.user, vertex.hostname
        meta.remove_mount_stubs_recursive = True
        meta.valid_exit_codes.extend(vertex.valid_exit_codes)
        op.exec.network = int(vertex.network)
        self.caps.add("exec.meta.base")
        if vertex.valid_exit_codes:
            self.caps.add("exec.validexitcode")
        if vertex.network != Network.SANDBOX:
            self.caps.add("exec.meta.network")
        if proxy := vertex.proxy:
            self.caps.add("exec.meta.proxyenv")
            meta.proxy_env.SetInParent()
            meta.proxy_env.http_proxy, meta.proxy_env.https_proxy = proxy.http, proxy.https
            meta.proxy_env.no_proxy = proxy.no
        op.exec.mounts.add(input=self._input(op, vertex.root), dest="/", output=0)
        if vertex.root.vertex is not None:
            self.caps.add("exec.mount.bind")
        for mount in sorted(sorted_mounts(vertex), key=lambda one: isinstance(one, Secret)):  # as BuildKit's client
            self._mount(op, vertex, mount)

    def _mount(self, op: Any, vertex: ExecOp, mount: Mount) -> None:
        message = op.exec.mounts.add(dest=mount.dest, input=_EMPTY, output=_NO_OUTPUT)
        match mount:
            case Bind():
                if mount.source is not None:
                    message.input = self._input(op, mount.source)
                    self.caps.add("exec.mount.bind" if not mount.selector else "exec.mount.selector")
                message.selector, message.readonly = mount.selector, mount.readonly
                if not mount.readonly:
                    message.output = 1 + _writable(vertex).index(mount)
            case Tmpfs():
                message.mount_type = _TMPFS
                message.tmpfs.SetInParent()
                message.tmpfs.size = mount.size
                self.caps.update(("exec.mount.tmpfs", "exec.mount.tmpfs.size") if mount.size else ("exec.mount.tmpfs",))
            case Secret():
                message.output = 0  # as BuildKit's client leaves it
                message.mount_type = _SECRET
                message.secret.id, message.secret.mode, message.secret.optional = mount.id, mount.mode, mount.optional
                self.caps.add("exec.mount.secret")

    def _file(self, op: Any, vertex: FileOp) -> None:
        self.caps.add("file.base")
        first = self._input(op, vertex.input)
        sources = [self._input(op, one.source) if isinstance(one, Copy) else _EMPTY for one in vertex.actions]
        for position, (action, second) in enumerate(zip(vertex.actions, sources, strict=True)):
            message = op.file.actions.add(secondary_input=second)
            message.input = first if position == 0 else len(op.inputs) + position - 1
            message.output = 0 if position == len(vertex.actions) - 1 else _NO_OUTPUT
            _write_action(message, action)

    def _merge(self, op: Any, vertex: MergeOp) -> None:
        self.caps.add("mergeop")
        for one in vertex.inputs:
            op.merge.inputs.add(input=self._input(op, one, share=False))

    def _diff(self, op: Any, vertex: DiffOp) -> None:
        self.caps.add("diffop")
        for side, one in ((op.diff.lower, vertex.lower), (op.diff.upper, vertex.upper)):
            side.SetInParent()
            side.input = self._input(op, one, share=False)


def _writable(vertex: ExecOp) -> list[Mount]:
    """Return the binds that are outputs, in the order in which they are numbered on the wire."""
    return [mount for mount in sorted_mounts(vertex) if isinstance(mount, Bind) and not mount.readonly]


def _wire_output(state: State) -> int:
    """Return an output's number on the wire, where mounts are sorted; in the graph they are in their own order."""
    if not isinstance(state.vertex, ExecOp) or state.output == 0:
        return state.output
    binds = [mount for mount in state.vertex.mounts if isinstance(mount, Bind) and not mount.readonly]
    return 1 + _writable(state.vertex).index(binds[state.output - 1])


def _write_action(message: Any, action: FileAction) -> None:
    match action:
        case MakeDirectory():
            made = message.mkdir
            made.path, made.mode, made.make_parents = action.path, action.mode, action.parents
        case MakeFile():
            made = message.mkfile
            made.path, made.mode, made.data = action.path, action.mode, action.data
        case Copy():
            copy = message.copy
            copy.src, copy.dest, copy.mode, copy.timestamp = action.path, action.dest, -1, -1
            copy.dir_copy_contents, copy.create_dest_path = action.contents_only, True
            return
    made.owner.user.by_id = made.owner.group.by_id = 0
