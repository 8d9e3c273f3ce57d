# SPDX-License-Identifier: Apache-2.0
"""Addresses of builders: what each form means, and one clear line for each that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.connect.address import (
    BuildxAddress,
    ContainerAddress,
    DockerAddress,
    KubePodAddress,
    SshAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
    parse_engine_host,
)
from copacetic.errors import InvalidAddressError
from support.floors import accepting, refusal

SOCKET = UnixAddress(path="/run/buildkit/buildkitd.sock")
GOOD = {
    "unix:///run/buildkit/buildkitd.sock": SOCKET,
    "tcp://builder.example:1234": TcpAddress(host="builder.example", port=1234),
    "tcp://[::1]:1234": TcpAddress(host="::1", port=1234),
    "docker://": DockerAddress(),
    "docker://desktop-linux": DockerAddress(context="desktop-linux"),
    "docker:///run/buildkit/buildkitd.sock": DockerAddress(host=SOCKET),
    "docker://unix:///run/buildkit/buildkitd.sock": DockerAddress(host=SOCKET),
    "docker://tcp://engine.example:2376": DockerAddress(host=TcpAddress(host="engine.example", port=2376)),
    "docker://tcp://engine.example": DockerAddress(host=TcpAddress(host="engine.example", port=2375)),
    "docker://ssh://me@engine.example:2222": DockerAddress(
        host=SshAddress(host="engine.example", user="me", port=2222)
    ),
    "buildx://": BuildxAddress(),
    "buildx://loving_mendeleev": BuildxAddress(name="loving_mendeleev"),
    "docker-container://buildkitd": ContainerAddress(engine="docker", name="buildkitd"),
    "docker-container://buildkitd?context=colima": ContainerAddress(
        engine="docker", name="buildkitd", context="colima"
    ),
    "podman-container://buildkitd": ContainerAddress(engine="podman", name="buildkitd"),
    "nerdctl-container://buildkitd?namespace=k8s.io": ContainerAddress(
        engine="nerdctl", name="buildkitd", namespace="k8s.io"
    ),
    "ssh://host.example": SshAddress(host="host.example"),
    "ssh://me@host.example:2222/run/buildkit/buildkitd.sock": SshAddress(
        host="host.example", user="me", port=2222, socket="/run/buildkit/buildkitd.sock"
    ),
    "ssh://host.example/": SshAddress(host="host.example"),
    "ssh://[fe80::1]:22": SshAddress(host="fe80::1", port=22),
    "kube-pod://buildkitd-0": KubePodAddress(pod="buildkitd-0"),
    "kube-pod://buildkitd-0?context=arn%3Aaws%3Aeks%3Aeu:1:cluster/c&namespace=build&container=buildkitd": KubePodAddress(
        pod="buildkitd-0", context="arn:aws:eks:eu:1:cluster/c", namespace="build", container="buildkitd"
    ),
}


@pytest.mark.parametrize("text", GOOD)
def test_every_form_means_what_buildctl_and_docker_mean_by_it(text: str) -> None:
    assert parse_address(text) == GOOD[text]


@pytest.mark.parametrize("text", GOOD)
def test_an_address_written_out_means_the_same(text: str) -> None:
    address = parse_address(text)

    assert parse_address(str(address)) == address


BAD = {
    "": "empty",
    "/run/buildkit/buildkitd.sock": "doesn't say how to connect",
    "builder.example:1234": "doesn't say how to connect",
    "docker": "doesn't say how to connect",
    "buildkit.sock": "doesn't say how to connect",
    "http://builder.example": "builders don't speak http",
    "https://builder.example": "builders don't speak https",
    "npipe:////./pipe/docker_engine": "Windows",
    "kubepod://buildkitd": "no such kind of address",
    "DOCKER://": "no such kind of address",
    "://x": "no such kind of address",
    "unix://": "must be absolute",
    "unix://run/buildkitd.sock": "must be absolute",
    "unix:///run/": "a directory",
    "unix:///" + "x" * 107: "no more than 107 bytes",
    "unix:///run/a b": "a blank",
    "unix:///run/a\nb": "a control character",
    "tcp://": "the host is missing",
    "tcp://builder.example": "the port is missing",
    "tcp://:1234": "the host is missing",
    "tcp://builder.example:0": "is not a port",
    "tcp://builder.example:65536": "is not a port",
    "tcp://builder.example:12x4": "is not a port",
    "tcp://builder.example:١٢": "is not a port",
    "tcp://builder.example:1234/path": "nothing may follow the port",
    "tcp://builder.example:1234?x=y": "has no meaning",
    "tcp://me@builder.example:1234": "has no user",
    "tcp://-builder:1234": "is not a host's name",
    "tcp://fe80::1:1234": "is not a host's name",
    "tcp://[nonsense]:1234": "is not a host's name",
    "docker://-H": "neither a context",
    "docker://a/b": "neither a context",
    "docker://npipe:////./pipe/docker_engine": "not the address of a Docker engine",
    "docker://http://engine.example": "not the address of a Docker engine",
    "buildx://a/b": "is not the name of a builder",
    "buildx://--help": "is not the name of a builder",
    "buildx://../../etc": "is not the name of a builder",
    "docker-container://": "name is missing",
    "docker-container://-it": "is not the name of a container",
    "docker-container://a;reboot": "is not the name of a container",
    "docker-container://a?namespace=b": "unknown",
    "docker-container://a?context=": "needs one value",
    "docker-container://a?context=b&context=c": "needs one value",
    "docker-container://a?context=--host%3Dx": "is not the name of a context",
    "podman-container://a?context=b": "unknown",
    "podman-container://a/b": "is not the name of a container",
    "nerdctl-container://a?namespace=-x": "is not the name of a namespace",
    "ssh://": "the host is missing",
    "ssh://me@": "the host is missing",
    "ssh://@host": "is not the name of a user",
    "ssh://-oProxyCommand=reboot": "is not a host's name",
    "ssh://me@-oProxyCommand=reboot": "is not a host's name",
    "ssh://-oProxyCommand=reboot@host": "is not the name of a user",
    "ssh://host/run/a;reboot": "is not the path of a socket",
    "ssh://host/run/$(reboot)": "is not the path of a socket",
    "ssh://host/run/`reboot`": "is not the path of a socket",
    "ssh://host/run/'": "is not the path of a socket",
    "ssh://host/run/%3Breboot": "is not the path of a socket",
    "ssh://host:port": "is not a port",
    "ssh://host?x": "has no meaning",
    "kube-pod://": "name is missing",
    "kube-pod://-n": "is not the name of a pod",
    "kube-pod://Pod": "is not the name of a pod",
    "kube-pod://a/b": "is not the name of a pod",
    "kube-pod://a?context=--kubeconfig": "is not the name of a context",
    "kube-pod://a?namespace=$(reboot)": "is not the name of a namespace",
    "kube-pod://a?container=B": "is not the name of a container",
    "kube-pod://a?kubeconfig=/etc/x": "unknown",
    "kube-pod://a#b": "has no meaning",
    "x" * 3_000: "characters",
}


@pytest.mark.parametrize("text", BAD)
def test_a_malformed_address_gets_one_line_that_says_what_is_wrong(text: str) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(text)

    message = str(caught.value)
    assert BAD[text] in message
    assert "\n" not in message
    assert len(message) < 600
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("/run/buildkit/buildkitd.sock", "write unix:///run/buildkit/buildkitd.sock"),
        ("builder.example:1234", "write tcp://builder.example:1234"),
        ("docker", "write docker://…"),
        ("kubepod://x", "did you mean kube-pod://?"),
        ("dockercontainer://x", "did you mean docker-container://?"),
        ("tcp://fe80::1:1234", "an IPv6 address stands in brackets, as in [::1]"),
    ],
)
def test_where_it_can_be_guessed_the_hint_says_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(text)

    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "text", ["ssh://me:secret@host.example", "tcp://me:secret@host.example:1234", "x://me:secret@h"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(text)

    assert "secret" not in f"{caught.value} {caught.value.hint}"


RESTS = [text.partition("://")[2] for text in GOOD]


@accepting(0.05)
@given(
    st.text(max_size=80) | st.builds("{}{}".format, st.text(max_size=2), st.sampled_from(RESTS)),
    st.sampled_from(["", *(text.partition("://")[0] + "://" for text in GOOD)]),
)
def test_whatever_is_accepted_holds_nothing_that_a_program_would_take_for_an_option(text: str, scheme: str) -> None:
    with refusal(InvalidAddressError):
        address = parse_address(scheme + text)
        written = str(address)
        assert parse_address(written) == address
        parts = [getattr(address, name) for name in type(address).__struct_fields__]
        assert not any(str(part).startswith("-") for part in parts)
        assert not any(one.isspace() or not one.isprintable() for one in written if one < "\x7f")


def test_an_engine_may_leave_out_its_port_as_docker_lets_it() -> None:
    assert parse_engine_host("tcp://engine.example") == TcpAddress(host="engine.example", port=2375)
