# SPDX-License-Identifier: Apache-2.0
"""Graphs held against BuildKit's own Go client and its `buildctl debug dump-llb`: the same bytes, the same digests."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic import llb
from copacetic.llb.graph import Copy, DiffOp, MakeDirectory, MakeFile, ProxyEnv
from copacetic.llb.marshal import encode
from copacetic.oci import Digest, Platform
from support.builder.gotools import go_programs

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("buildkit")]

AMD64 = Platform.parse("linux/amd64")
X = Digest.of(b"x")
IMAGE = "docker.io/library/debian:12"


def _graphs() -> dict[str, llb.State]:
    """The graphs of tests/support/builder/buildkit/graphs/main.go, by the same names."""
    base = llb.image(IMAGE)
    upgraded = base.run(["apt-get", "-y", "upgrade"], name="upgrade").root
    everything = base.run(
        ["x", "--flag", "ünicode"],
        env={"A": "1", "B": "two words"},
        cwd="/srv",
        user="daemon",
        hostname="builder",
        network=llb.Network.NONE,
        valid_exit_codes=[0, 100],
        proxy=ProxyEnv(http="http://p:1", no="localhost"),
        mounts=[
            llb.Tmpfs(dest="/small", size=4096),
            llb.Bind(dest="/selected", source=base, selector="/etc"),
            llb.Secret(dest="/run/secret", id="token", mode=0o440),
            llb.Secret(dest="/run/optional", id="other", optional=True),
            llb.Tmpfs(dest="/tmpfs"),
            llb.Bind(dest="/bind", source=upgraded),
        ],
    )
    outputs = base.run(
        ["x"],
        mounts=[
            llb.Bind(dest="/z", source=None, readonly=False),
            llb.Bind(dest="/b", source=base, readonly=False),
        ],
    )
    late, early = outputs.output("/z"), outputs.output("/b")
    return {
        "image": base,
        "image by digest": llb.image(f"{IMAGE}@{X}"),
        "local": llb.local("debs", shared_key="hint"),
        "layout": llb.oci_layout("a.example/b", X, store="store"),
        "exec": upgraded,
        "exec with all": everything.root,
        "exec on nothing": llb.scratch().run(["/x"], mounts=[llb.Bind(dest="/bin", source=base)]).root,
        "an output": late,
        "another output": early,
        "patch": llb.merge([base, llb.diff(base, upgraded)]),
        "diff to nothing": llb.State(DiffOp(lower=base, upper=llb.scratch())),
        "diff and outputs": llb.merge([base, late, llb.diff(early, upgraded), base]),
        "files": base.file(
            MakeDirectory(path="/d", mode=0o750, parents=True),
            MakeFile(path="/d/f", data=b"text\0\xff"),
            Copy(source=upgraded, path="/etc/passwd", dest="/d/"),
            Copy(source=base, path="/usr", dest="/u", contents_only=True),
        ),
        "a file on nothing": llb.scratch().file(MakeFile(path="/f", data=b"", mode=0o600)),
    }


@pytest.fixture(scope="module")
def expected() -> Mapping[str, list[str]]:
    printed = subprocess.run([go_programs() / "graphs"], capture_output=True, check=True).stdout
    return dict(json.loads(printed))


@pytest.mark.parametrize("name", sorted(_graphs()))
def test_a_graph_is_byte_for_byte_what_buildkit_s_own_client_makes(
    name: str, expected: Mapping[str, list[str]]
) -> None:
    ours = _graphs()[name].marshal(AMD64, unique="unique")

    theirs = [b64decode(one) for one in expected[name]]
    assert ours.operations[-1] == theirs[-1]
    assert sorted(ours.operations) == sorted(theirs)
    assert {str(digest) for digest in ours.digests} == {str(Digest.of(one)) for one in theirs}


def test_every_graph_of_the_oracle_is_compared(expected: Mapping[str, list[str]]) -> None:
    assert set(expected) == {*_graphs(), "another platform"}


def test_platforms_are_written_as_buildkit_s_own_client_writes_them(
    expected: Mapping[str, list[str]],
) -> None:
    arm = llb.image(IMAGE).run(["true"]).root.marshal(Platform.parse("linux/arm/v7"))

    assert list(arm.operations) == [b64decode(one) for one in expected["another platform"]]


@pytest.mark.parametrize("name", sorted(_graphs()))
def test_what_buildkit_reads_from_a_definition_it_writes_again_as_the_same_bytes(name: str, tmp_path: Path) -> None:
    definition = _graphs()[name].marshal(AMD64)
    file = tmp_path / "definition"
    file.write_bytes(encode(definition))

    again = json.loads(subprocess.run([go_programs() / "graphs", file], capture_output=True, check=True).stdout)[
        "again"
    ]

    assert [b64decode(one) for one in again] == list(definition.operations)


@pytest.mark.parametrize("name", sorted(_graphs()))
def test_buildctl_shows_the_digests_and_the_metadata(name: str, tmp_path: Path) -> None:
    definition = _graphs()[name].marshal(AMD64)
    file = tmp_path / "definition"
    file.write_bytes(encode(definition))

    program = go_programs() / "buildctl"
    lines = subprocess.run(
        [program, "debug", "dump-llb", file], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    shown = [json.loads(line) for line in lines]
    assert [one["Digest"] for one in shown] == [str(digest) for digest in definition.digests]
    assert all(one["OpMetadata"]["caps"] for one in shown)
    names = {one["OpMetadata"].get("description", {}).get("llb.customname") for one in shown}
    assert names - {None} == {vertex.name for vertex in definition.vertices if vertex.name}
