# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a graph."""

from __future__ import annotations

import re

from copacetic import llb
from copacetic.llb.dump import dump
from copacetic.llb.graph import Copy, MakeFile, ProxyEnv
from copacetic.oci import Platform

AMD64 = Platform.parse("linux/amd64")


def test_a_graph_is_shown_in_the_order_in_which_it_happens() -> None:
    base = llb.image("docker.io/library/debian:12")
    debs = llb.local("debs")
    run = base.run(
        ["sh", "-c", "apt-get -y upgrade"],
        env={"DEBIAN_FRONTEND": "noninteractive"},
        network=llb.Network.NONE,
        mounts=[
            llb.Tmpfs(dest="/var/cache", size=64 << 20),
            llb.Bind(dest="/debs", source=debs),
            llb.Bind(dest="/out", source=None, readonly=False),
            llb.Secret(dest="/run/s", id="token", optional=True),
        ],
        valid_exit_codes=[0, 100],
        name="upgrade the packages",
    )

    shown = dump(llb.merge([base, llb.diff(base, run.root), run.output("/out")]).marshal(AMD64))

    assert re.sub(r" +sha256:[0-9a-f]{12}\n", "\n", shown) == (
        "graph for linux/amd64\n"
        "#1 image docker.io/library/debian:12\n"
        "#2 directory debs\n"
        '#3 exec "upgrade the packages"\n'
        "     root     #1\n"
        "     run      sh -c 'apt-get -y upgrade'\n"
        "     env      DEBIAN_FRONTEND=noninteractive\n"
        "     network  none\n"
        "     accepts  exit codes 0, 100\n"
        "     mount    /debs  #2, read-only\n"
        "     mount    /out  empty, an output\n"
        "     mount    /run/s  secret token, mode 400, optional\n"
        "     mount    /var/cache  tmpfs, 64 MiB\n"
        "#4 diff from #1 to #3\n"
        "#5 merge #1 + #4 + #3:/out\n"
        "result: #5\n"
    )


def test_the_digests_shown_are_the_beginnings_of_the_definition_s() -> None:
    definition = llb.image("docker.io/library/debian:12").run(["true"]).root.marshal(AMD64)

    shown = re.findall(r"sha256:[0-9a-f]+", dump(definition))

    assert shown == [str(digest)[:19] for digest in definition.digests[:-1]]


def test_file_operations_are_shown_without_their_contents() -> None:
    state = llb.scratch().file(
        MakeFile(path="/etc/x", data=b"secret"),
        Copy(source=llb.image("a.example/b:c"), path="/d", dest="/e"),
    )

    shown = dump(state.marshal(AMD64))

    assert "     write    /etc/x, 6 bytes, mode 644\n     copy     #1/d to /e\n" in shown
    assert "secret" not in shown


def test_proxies_are_only_said_to_be_set_and_control_characters_are_shown() -> None:
    state = llb.scratch().run(["x", "\x1b[31m"], proxy=ProxyEnv(http="http://user:password@proxy"))

    shown = dump(state.root.marshal(AMD64))

    assert "password" not in shown
    assert "\x1b" not in shown
    assert "proxy    set" in shown


def test_nothing_is_shown_of_the_empty_filesystem() -> None:
    assert dump(llb.scratch().marshal(AMD64)) == "graph for linux/amd64\nresult: nothing\n"
