# SPDX-License-Identifier: Apache-2.0
"""Which engine is meant, by docker's own files and rules; the oracle is the docker program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from copacetic.connect.address import BuildxAddress, DockerAddress, SshAddress, TcpAddress, UnixAddress, parse_address
from copacetic.connect.dockercontext import find_engine, find_place
from copacetic.connect.route import find_routes
from copacetic.connect.settings import BuilderSettings, EngineSettings
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import DaemonUnreachableError, InvalidAddressError, UsageError
from support.server.certificate import make_certificate
from support.value.replacing import replace

HOSTS = {
    "near": "unix:///run/near/docker.sock",
    "far": "tcp://engine.example:2376",
    "plain": "tcp://engine.example:2375",
    "remote": "ssh://me@host.example:2222",
}


def _docker(config: Path, *arguments: str, **environment: str) -> str:
    if shutil.which("docker") is None:
        pytest.skip("the docker program is not installed")
    command = ["docker", "--config", str(config), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return result.stdout.strip()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Docker's folder with the contexts of `HOSTS`, made by docker; `far` has certificates."""
    folder = tmp_path / "docker"
    folder.mkdir()
    certificate = make_certificate(tmp_path / "tls")
    files = f",ca={certificate.authority},cert={certificate.file},key={certificate.key}"
    for name, host in HOSTS.items():
        _docker(folder, "context", "create", name, "--docker", f"host={host}{files if name == 'far' else ''}")
    return folder


@pytest.mark.system
@pytest.mark.parametrize("name", HOSTS)
def test_a_context_is_where_docker_says_it_is(config: Path, name: str) -> None:
    place = find_engine(DockerAddress(context=name), BuilderSettings(docker_config=config))

    assert str(place.host) == HOSTS[name]
    assert str(place.host) == _docker(config, "context", "inspect", name, "--format", "{{.Endpoints.docker.Host}}")
    assert place.why == f"context {name}"


@pytest.mark.system
def test_a_context_s_certificates_are_those_that_docker_copied(config: Path) -> None:
    far = find_engine(DockerAddress(context="far"), BuilderSettings(docker_config=config))
    plain = find_engine(DockerAddress(context="plain"), BuilderSettings(docker_config=config))

    assert far.tls.verify
    assert far.tls.ca is not None
    assert far.tls.cert is not None
    assert far.tls.key is not None
    folder = Path(_docker(config, "context", "inspect", "far", "--format", "{{.Storage.TLSPath}}"))
    assert far.tls.ca.parent == folder / "docker"
    assert not plain.tls


@pytest.mark.system
@pytest.mark.parametrize(
    ("used", "context", "host", "expected"),
    [
        ("", "", "", "default"),
        ("near", "", "", "near"),
        ("near", "far", "", "far"),
        ("near", "default", "", "default"),
        ("near", "far", "unix:///run/other.sock", "default"),
    ],
)
def test_the_order_is_docker_s_own(config: Path, used: str, context: str, host: str, expected: str) -> None:
    if used:
        _docker(config, "context", "use", used)
    environment = {"DOCKER_CONTEXT": context} if context else {}
    environment |= {"DOCKER_HOST": host} if host else {}
    settings = BuilderSettings(docker_config=config, docker_context=context, docker_host=host)

    assert _docker(config, "context", "show", **environment) == expected
    place = find_engine(DockerAddress(), settings)
    assert str(place.host) == (HOSTS.get(expected) or host or "unix:///var/run/docker.sock")


def test_a_missing_context_names_those_that_exist(tmp_path: Path) -> None:
    _write_context(tmp_path, "colima", {"Host": "unix:///run/colima.sock"})

    with pytest.raises(DaemonUnreachableError, match="no docker context 'podman'") as caught:
        find_engine(DockerAddress(context="podman"), BuilderSettings(docker_config=tmp_path))

    assert "known: colima" in str(caught.value.hint)


def test_a_missing_context_is_told_with_who_asked_for_it(tmp_path: Path) -> None:
    settings = BuilderSettings(docker_config=tmp_path, docker_context="gone")

    with pytest.raises(DaemonUnreachableError, match=r"'gone' \(DOCKER_CONTEXT\)"):
        find_engine(DockerAddress(), settings)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"Host": "npipe:////./pipe/docker_engine"}, "not the address of a Docker engine"),
        ({"Host": "ssh://-oProxyCommand=reboot"}, "not a host's name"),
        ({"Host": 7}, "has no docker endpoint"),
        (None, "has no docker endpoint"),
        ([], "has no docker endpoint"),
    ],
)
def test_a_context_of_no_use_is_refused(tmp_path: Path, endpoint: object, message: str) -> None:
    _write_context(tmp_path, "odd", endpoint)

    with pytest.raises(DaemonUnreachableError, match=message):
        find_engine(DockerAddress(context="odd"), BuilderSettings(docker_config=tmp_path))


@pytest.mark.parametrize("text", ["", "[", "[]", "[" * 100_000, "\xff", " " * 1_100_000 + "{}"])
def test_a_broken_file_of_docker_s_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, "latin-1")

    with pytest.raises(DaemonUnreachableError, match=r"config\.json is not a JSON object"):
        find_engine(DockerAddress(), BuilderSettings(docker_config=tmp_path))


def test_a_malformed_docker_host_is_named_as_that() -> None:
    with pytest.raises(InvalidAddressError, match="DOCKER_HOST: 'engine.example:2375' is not the address"):
        find_engine(DockerAddress(), BuilderSettings(docker_host="engine.example:2375"))


def test_an_engine_without_root_is_found_where_docker_s_own_socket_is_missing(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch()
    settings = BuilderSettings(runtime_dir=tmp_path, engine_socket=tmp_path / "missing.sock")

    assert find_engine(DockerAddress(), settings).host == UnixAddress(path=str(tmp_path / "docker.sock"))


def test_podman_is_where_its_variable_says_or_at_the_user_s_socket_or_at_root_s(tmp_path: Path) -> None:
    missing = tmp_path / "missing.sock"
    root_s = EngineSettings(runtime_dir=tmp_path, podman_socket=missing)
    assert str(find_place("podman", root_s)) == f"unix://{missing} (default socket)"
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman" / "podman.sock").touch()
    assert str(find_place("podman", root_s)) == f"unix://{tmp_path}/podman/podman.sock (default socket)"
    named = replace(root_s, container_host="ssh://me@host.example:22/run/podman.sock")
    assert str(find_place("podman", named)) == "ssh://me@host.example:22/run/podman.sock (CONTAINER_HOST)"
    with pytest.raises(InvalidAddressError, match="^CONTAINER_HOST: 'nonsense'"):
        find_place("podman", replace(root_s, container_host="nonsense"))


def test_docker_s_images_are_with_the_engine_that_docker_would_use() -> None:
    settings = EngineSettings(docker_host="tcp://engine.example:2376")
    assert find_place("docker", settings) == find_engine(DockerAddress(), settings)


def test_certificates_of_the_environment_are_for_the_engine_s_host_only() -> None:
    tls = TlsFiles(ca=Path("/certs/ca.pem"))
    settings = BuilderSettings(docker_host="tcp://engine.example:2376", docker_tls=tls)

    assert find_engine(DockerAddress(), settings).tls == tls
    assert find_engine(DockerAddress(host=TcpAddress(host="e.example", port=2376)), settings).tls == tls


@pytest.mark.parametrize("address", ["unix:///run/b.sock", "ssh://host", "docker://", "buildx://x", "kube-pod://x"])
def test_flags_for_tls_are_refused_where_they_would_have_no_effect(address: str) -> None:
    settings = BuilderSettings(tls=TlsFiles(ca=Path("/certs/ca.pem")))

    with pytest.raises(UsageError, match="TLS doesn't apply to"):
        find_routes(parse_address(address), settings)


# Builders of buildx


def _write_context(config: Path, name: str, endpoint: object) -> None:
    import hashlib

    folder = config / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))


def _write_builder(config: Path, name: str, driver: str, *nodes: dict[str, object]) -> None:
    folder = config / "buildx" / "instances"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"Name": name, "Driver": driver, "Nodes": nodes, "Dynamic": False}))


def _select(config: Path, name: str, *, key: str = "", everywhere: bool = False) -> None:
    document = {"Key": key, "Name": name, "Global": everywhere}
    (config / "buildx" / "current").write_text(json.dumps(document))


def _places(config: Path, name: str = "", **settings: str) -> list[str]:
    routes = find_routes(BuildxAddress(name=name), BuilderSettings(docker_config=config, **settings))  # type: ignore[arg-type]
    return [route.place for route in routes]


def test_a_builder_in_containers_has_a_route_for_each_node(tmp_path: Path) -> None:
    _write_context(tmp_path, "arm", {"Host": "ssh://arm.example"})
    _write_builder(
        tmp_path,
        "mixed",
        "docker-container",
        {"Name": "mixed0", "Endpoint": "unix:///run/docker.sock"},
        {"Name": "mixed1", "Endpoint": "arm"},
    )

    assert _places(tmp_path, "mixed") == [
        "container buildx_buildkit_mixed0, unix:///run/docker.sock",
        "container buildx_buildkit_mixed1, ssh://arm.example (context arm)",
    ]


def test_the_selected_builder_is_the_one_for_this_endpoint_or_for_all(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _write_builder(tmp_path, name, "docker-container", {"Name": f"{name}0", "Endpoint": "default"})
    container = "container buildx_buildkit_{}0, unix:///var/run/docker.sock (default socket)".format

    _select(tmp_path, "one", key="unix:///var/run/docker.sock")
    assert _places(tmp_path) == [container("one")]
    assert _places(tmp_path, buildx_builder="two") == [container("two")]
    with pytest.raises(DaemonUnreachableError, match="no builder is selected"):
        _places(tmp_path, docker_host="unix:///run/other.sock")

    _select(tmp_path, "one", everywhere=True)
    assert _places(tmp_path, docker_host="unix:///run/other.sock") == [
        "container buildx_buildkit_one0, unix:///run/other.sock (DOCKER_HOST)"
    ]


def test_a_builder_that_is_an_engine_is_that_engine(tmp_path: Path) -> None:
    _write_context(tmp_path, "colima", {"Host": "unix:///run/colima.sock"})
    _write_builder(tmp_path, "own", "docker", {"Name": "own", "Endpoint": "colima"})

    assert _places(tmp_path, "own") == ["unix:///run/colima.sock (context colima)"]
    assert _places(tmp_path, "colima") == ["unix:///run/colima.sock (context colima)"]
    assert _places(tmp_path, "default") == ["unix:///var/run/docker.sock (default socket)"]


def test_a_missing_builder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachableError, match="buildx://gone: there is no such builder"):
        _places(tmp_path, "gone")


@pytest.mark.parametrize(
    ("driver", "node", "message"),
    [
        ("cloud", {"Name": "x0", "Endpoint": "org/x"}, "the driver 'cloud' of buildx isn't supported"),
        ("docker-container", {"Name": "x/../y", "Endpoint": "default"}, "is not a usable node"),
        ("docker-container", {"Name": "-x", "Endpoint": "default"}, "is not a usable node"),
        ("docker-container", {"Name": "x0"}, "is not a usable node"),
        ("remote", {"Name": "x0", "Endpoint": "tcp://-oX:1"}, "is not a host's name"),
        ("kubernetes", {"Name": "x0", "Endpoint": "kubernetes:///x?deployment=--all"}, "can't be used"),
        ("kubernetes", {"Name": "x0", "Endpoint": "", "DriverOpts": {"namespace": "a b"}}, "can't be used"),
    ],
)
def test_a_builder_of_no_use_is_refused_before_anything_runs(
    tmp_path: Path, driver: str, node: dict[str, object], message: str
) -> None:
    _write_builder(tmp_path, "x", driver, node)

    with pytest.raises(DaemonUnreachableError, match=message):
        find_routes(BuildxAddress(name="x"), BuilderSettings(docker_config=tmp_path))[0].connect()


def test_a_node_of_no_use_leaves_the_others_in_use(tmp_path: Path) -> None:
    _write_builder(
        tmp_path,
        "m",
        "docker-container",
        {"Name": "m0", "Endpoint": "gone"},
        {"Name": "m1", "Endpoint": "unix:///run/docker.sock"},
    )

    first, second = find_routes(BuildxAddress(name="m"), BuilderSettings(docker_config=tmp_path))

    assert second.place == "container buildx_buildkit_m1, unix:///run/docker.sock"
    with pytest.raises(DaemonUnreachableError, match="buildx://m: node m0: there is no docker context 'gone'"):
        first.connect()


def test_a_remote_builder_brings_its_own_certificates(tmp_path: Path) -> None:
    options = {"cacert": str(tmp_path / "missing.pem"), "servername": "builder"}
    _write_builder(tmp_path, "r", "remote", {"Name": "r0", "Endpoint": "tcp://127.0.0.1:1", "DriverOpts": options})
    (route,) = find_routes(BuildxAddress(name="r"), BuilderSettings(docker_config=tmp_path))

    with pytest.raises(UsageError, match="can't read .*missing.pem"):
        route.connect()


def test_ssh_contexts_keep_user_and_port(tmp_path: Path) -> None:
    _write_context(tmp_path, "remote", {"Host": HOSTS["remote"]})

    place = find_engine(DockerAddress(context="remote"), BuilderSettings(docker_config=tmp_path))

    assert place.host == SshAddress(host="host.example", user="me", port=2222)
