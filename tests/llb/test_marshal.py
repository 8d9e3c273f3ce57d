# SPDX-License-Identifier: Apache-2.0
"""What a graph becomes on the wire, and which graphs are refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest

from copacetic import llb
from copacetic.errors import SolverError
from copacetic.llb.graph import (
    Copy,
    ExecOp,
    FileAction,
    MakeDirectory,
    MakeFile,
    MergeOp,
    Mount,
    ProxyEnv,
    SourceOp,
)
from copacetic.llb.marshal import encode
from copacetic.llb.schema import pb
from copacetic.oci import Digest, Platform

AMD64 = Platform.parse("linux/amd64")
BASE = llb.image("docker.io/library/debian:12")


def _operations(state: llb.State, **options: Any) -> list[Any]:
    return [pb().Op.FromString(data) for data in state.marshal(AMD64, **options).operations]


def _metadata(state: llb.State) -> list[Any]:
    definition = state.marshal(AMD64)
    return [pb().OpMetadata.FromString(definition.metadata[digest]) for digest in definition.digests]


def test_operations_are_named_by_the_sha256_of_their_bytes_and_refer_to_each_other_by_it() -> None:
    definition = BASE.run(["true"]).root.marshal(AMD64)

    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in definition.operations]
    source, execution, last = (pb().Op.FromString(data) for data in definition.operations)
    assert digests == [str(digest) for digest in definition.digests]
    assert source.source.identifier == "docker-image://docker.io/library/debian:12"
    assert [one.digest for one in execution.inputs] == [digests[0]]
    assert [(one.digest, one.index) for one in last.inputs] == [(digests[1], 0)]
    assert last.WhichOneof("op") is None


def test_the_same_graph_made_twice_gives_the_same_bytes() -> None:
    def make() -> llb.State:
        base = llb.image("docker.io/library/debian:12")
        mounts: list[Mount] = [llb.Tmpfs(dest="/b"), llb.Tmpfs(dest="/a", size=1)]
        return llb.merge([base, llb.diff(base, base.run(["x"], env={"B": "1", "A": "2"}, mounts=mounts).root)])

    assert encode(make().marshal(AMD64)) == encode(make().marshal(AMD64))


def test_a_vertex_that_is_used_twice_and_its_equal_are_written_once() -> None:
    first, second = (llb.image("docker.io/library/debian:12") for _ in range(2))

    definition = llb.merge([first.run(["a"]).root, first.run(["b"]).root, second.run(["c"]).root]).marshal(AMD64)

    assert len(definition.operations) == 1 + 3 + 1 + 1
    assert definition.vertices[_vertex(first)] == definition.vertices[_vertex(second)] == definition.digests[0]


def _vertex(state: llb.State) -> Any:
    assert state.vertex is not None
    return state.vertex


def test_the_empty_filesystem_has_no_operations() -> None:
    assert llb.scratch().marshal(AMD64).operations == ()


def test_a_graph_deeper_than_python_s_recursion_limit_is_written() -> None:
    state = BASE
    for number in range(sys.getrecursionlimit() + 100):
        state = state.run([str(number)]).root

    assert len(state.marshal(AMD64).operations) == sys.getrecursionlimit() + 102


def test_the_platform_is_on_what_depends_on_one() -> None:
    platform = Platform.parse("linux/arm/v7")
    state = llb.merge([BASE.run(["x"]).root, BASE.file(MakeDirectory(path="/d")), llb.local("context")])

    operations = [pb().Op.FromString(data) for data in state.marshal(platform).operations][:-1]

    kinds = {one.WhichOneof("op"): one for one in operations}
    assert {
        one.source.identifier.partition(":")[0]: one.HasField("platform")
        for one in operations
        if one.HasField("source")
    } == {
        "docker-image": True,
        "local": False,
    }
    assert (kinds["exec"].platform.architecture, kinds["exec"].platform.variant) == ("arm", "v7")
    assert not kinds["file"].HasField("platform")
    assert not kinds["merge"].HasField("platform")


def test_a_writable_mount_is_an_output_that_keeps_its_name_whatever_the_order() -> None:
    execution = BASE.run(
        ["x"],
        mounts=[
            llb.Bind(dest="/z", source=None, readonly=False),
            llb.Bind(dest="/m", source=BASE, readonly=True),
            llb.Bind(dest="/a", source=None, readonly=False),
        ],
    )

    for place in ("/z", "/a"):
        *_, operation, last = _operations(execution.output(place))
        outputs = {mount.output: mount.dest for mount in operation.exec.mounts}
        assert outputs[last.inputs[0].index] == place
    with pytest.raises(KeyError):
        execution.output("/m")


def test_every_kind_of_mount_says_what_it_is() -> None:
    mounts: list[Mount] = [
        llb.Bind(dest="/bind", source=BASE, selector="/etc"),
        llb.Tmpfs(dest="/tmpfs", size=4096),
        llb.Secret(dest="/secret", id="s", mode=0o440, optional=True),
    ]

    operation = _operations(BASE.run(["x"], mounts=mounts).root)[1]

    root, bind, tmpfs, secret = operation.exec.mounts
    assert (root.dest, root.input, root.output) == ("/", 0, 0)
    assert (bind.mount_type, bind.input, bind.selector, bind.readonly, bind.output) == (0, 0, "/etc", True, -1)
    assert (tmpfs.mount_type, tmpfs.input, tmpfs.tmpfs.size) == (4, -1, 4096)
    assert (secret.mount_type, secret.input, secret.secret.id, secret.secret.mode, secret.secret.optional) == (
        1,
        -1,
        "s",
        0o440,
        True,
    )


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (BASE, {"source.image"}),
        (
            llb.local("c", shared_key="k"),
            {"source.local", "source.local.sharedkeyhint"},
        ),
        (llb.oci_layout("a/b", Digest.of(b""), store="s"), {"source.ocilayout"}),
        (llb.scratch().run(["x"], network=llb.Network.NONE).root, {"exec.meta.base", "exec.meta.network"}),
        (llb.scratch().run(["x"], proxy=ProxyEnv(http="http://p")).root, {"exec.meta.base", "exec.meta.proxyenv"}),
        (llb.scratch().run(["x"], valid_exit_codes=[0, 7]).root, {"exec.meta.base", "exec.validexitcode"}),
    ],
    ids=["image", "local", "layout", "network", "proxy", "exit codes"],
)
def test_an_operation_names_the_capabilities_that_it_needs(state: llb.State, wanted: set[str]) -> None:
    assert set(_metadata(state)[0].caps) == wanted


def test_merge_and_diff_name_their_capabilities_and_the_whole_graph_what_its_metadata_needs() -> None:
    run = BASE.run(["x"], name="upgrade").root

    source, execution, difference, merged, last = _metadata(llb.merge([BASE, llb.diff(BASE, run)]))

    assert set(source.caps) == {"source.image"}
    assert execution.description["llb.customname"] == "upgrade"
    assert (set(difference.caps), set(merged.caps)) == ({"diffop"}, {"mergeop"})
    assert set(last.caps) == {"constraints", "platform", "meta.description"}


def test_file_actions_work_on_each_other_and_root_is_written_as_an_owner() -> None:
    state = BASE.file(
        MakeDirectory(path="/d"),
        MakeFile(path="/d/f", data=b"x"),
        Copy(source=llb.local("c"), path="/", dest="/d/", contents_only=True),
    )

    operation = _operations(state)[2]

    assert [one.input for one in operation.file.actions] == [0, 2, 3]
    assert [one.secondary_input for one in operation.file.actions] == [-1, -1, 1]
    assert [one.output for one in operation.file.actions] == [-1, -1, 0]
    assert operation.file.actions[1].mkfile.owner.SerializeToString() == bytes.fromhex("0a021000 12021000")
    assert operation.file.actions[2].copy.mode == operation.file.actions[2].copy.timestamp == -1


def test_a_difference_from_nothing_is_the_thing_itself_and_empty_layers_vanish_from_a_merge() -> None:
    assert llb.diff(llb.scratch(), BASE) is BASE
    assert llb.merge([llb.scratch(), BASE, llb.scratch()]) is BASE
    assert llb.merge([llb.scratch()]).vertex is None


def test_a_client_s_directory_is_kept_apart_from_another_client_s() -> None:
    state = llb.local("context")

    assert "local.unique" not in _operations(state)[0].source.attrs
    assert _operations(state, unique="one")[0].source.attrs["local.unique"] == "one"


def _exec(**options: Any) -> llb.State:
    return llb.State(ExecOp(**{"root": BASE, "args": ("x",), **options}))


def _file(action: FileAction) -> llb.State:
    return BASE.file(action)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (_exec(args=()), "it has no program"),
        (_exec(args=("",)), "it has no program"),
        (_exec(args=("a", "b\0c")), "its argument 1 has a NUL character"),
        (_exec(args=("a", "\udcff")), "its argument 1 is not UTF-8"),
        (_exec(args=("a" * 200_000,)), "its argument 0 has 200000 characters"),
        (_exec(cwd=""), "its working directory must be absolute"),
        (_exec(cwd="/a/../b"), "its working directory must be absolute"),
        (_exec(cwd="//a"), "its working directory must be absolute"),
        (_exec(env=(("A=B", "c"),)), "is no name for an environment variable"),
        (_exec(env=(("A", "1"), ("A", "2"))), "an environment variable is set twice"),
        (_exec(valid_exit_codes=(256,)), "not between 0 and 255"),
        (_exec(mounts=(llb.Tmpfs(dest="relative"),)), "a mount's place must be absolute"),
        (_exec(mounts=(llb.Tmpfs(dest="/"),)), "two filesystems are mounted at /"),
        (_exec(mounts=(llb.Tmpfs(dest="/a"), llb.Secret(dest="/a", id="s"))), "two filesystems are mounted at /a"),
        (_exec(mounts=(llb.Secret(dest="/a", id=""),)), "the mount at /a has no id"),
        (_exec(mounts=(llb.Bind(dest="/a", source=BASE, selector="b"),)), "the path inside the filesystem"),
        (_exec(mounts=(llb.Bind(dest="/a", source=None),)), "of no use when it is read-only"),
        (_exec(mounts=(llb.Tmpfs(dest="/a", size=-1),)), "is negative"),
        (BASE.file(), "it has no action"),
        (_file(MakeDirectory(path="/a/")), "a path must be absolute"),
        (_file(MakeDirectory(path="/a", mode=0o1777)), "not one of permission bits only: 1777"),
        (_file(MakeFile(path="/a", data=bytes((1 << 20) + 1))), "a graph carries at most"),
        (_file(Copy(source=BASE, path="../x", dest="/")), "a path to copy must be absolute"),
        (llb.State(SourceOp(identifier="ftp://x")), "no scheme that is known"),
        (llb.State(SourceOp(identifier="docker-image://a b")), "no scheme that is known"),
        (llb.State(MergeOp(inputs=(BASE,))), "two filesystems or more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_graph_that_no_solver_can_take_is_refused_with_the_reason(state: llb.State, problem: str) -> None:
    with pytest.raises(SolverError) as caught:
        state.marshal(AMD64)

    assert problem in str(caught.value)


def test_the_complaint_names_the_vertex() -> None:
    with pytest.raises(SolverError, match=r"^exec apt-get \(upgrade\): its working directory must be absolute"):
        BASE.run(["apt-get", "upgrade"], cwd="x", name="upgrade").root.marshal(AMD64)


def test_importing_graphs_loads_no_protobuf() -> None:
    code = "import sys, copacetic.llb, copacetic.llb.solver; print('google.protobuf' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
