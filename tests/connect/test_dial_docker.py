# SPDX-License-Identifier: Apache-2.0
"""Builders in and behind a real Docker engine: its own BuildKit, containers, contexts, buildx."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.buildkit.detect import find_builders, open_builder
from copacetic.buildkit.probe import ProbeState
from copacetic.cli import main
from copacetic.connect.address import parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import BuilderUnreachableError, UnsupportedBuilderError
from copacetic.llb.solver import Capabilities
from support.builder.buildkitd import Buildkitd, buildkitd
from support.builder.dockerd import Dockerd, dockerd
from support.builder.gotools import go_programs
from support.builder.sshd import ssh_server
from support.server.certificate import Certificate, make_certificate
from support.server.ports import find_port
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("dockerd")]


@dataclass(frozen=True, kw_only=True)
class Engines:
    """An engine at a socket and at a port with TLS, with containers that reach a buildkitd beside it."""

    engine: Dockerd
    port: int
    certificate: Certificate
    daemon: Buildkitd

    def settings(self, config: Path | None = None) -> BuilderSettings:
        return BuilderSettings(docker_host=self.engine.host, docker_config=config, timeout=10)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    port = find_port()
    names = {"ca.pem": certificate.authority, "cert.pem": certificate.file, "key.pem": certificate.key}
    configuration = {
        "hosts": [f"tcp://127.0.0.1:{port}"],
        "tlsverify": True,
        "tlscacert": "/shared/ca.pem",
        "tlscert": "/shared/cert.pem",
        "tlskey": "/shared/key.pem",
    }
    files = {name: path.read_bytes() for name, path in names.items()}
    with ExitStack() as stack:
        engine = stack.enter_context(dockerd(configuration=configuration, files=files))
        daemon = stack.enter_context(buildkitd(options=("--addr", f"unix://{engine.shared}/buildkitd.sock")))
        stack.callback(engine.remove_containers)  # first: the daemon's end waits for whoever is connected
        engine.load(_root("bin/buildctl"), "with-buildctl:1")
        engine.load(_root("bin/other"), "without:1")
        yield Engines(engine=engine, port=port, certificate=certificate, daemon=daemon)


def _root(program: str) -> bytes:
    """The tar of a root with buildctl, under any name, and nothing else."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(go_programs() / "buildctl", program)
    return file.getvalue()


def _container(engines: Engines, name: str, *, image: str = "with-buildctl:1", start: bool = True) -> None:
    """A container that waits, and in which `buildctl` finds the builder."""
    program = "/bin/buildctl" if image.startswith("with-") else "/bin/other"
    environment = {"PATH": "/bin", "BUILDKIT_HOST": "unix:///shared/buildkitd.sock"}
    engines.engine.create(name, image, [program, "dial-stdio"], environment=environment, start=start)


def _open(address: str, settings: BuilderSettings) -> Capabilities:
    solver = open_builder(replace(settings, address=parse_address(address)))
    try:
        return solver.capabilities()
    finally:
        solver.close()


def _fail(address: str, settings: BuilderSettings) -> BuilderUnreachableError:
    with pytest.raises(BuilderUnreachableError) as caught:
        _open(address, settings)
    return caught.value


def _assert_builder(capabilities: Capabilities) -> None:
    assert capabilities.merge_diff
    assert "linux/amd64" in map(str, capabilities.platforms)


def _write_context(config: Path, name: str, host: str, certificate: Certificate | None = None) -> None:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta, tls = config / "contexts" / "meta" / key, config / "contexts" / "tls" / key / "docker"
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    if certificate is not None:
        tls.mkdir(parents=True)
        for file, path in (("ca", certificate.authority), ("cert", certificate.file), ("key", certificate.key)):
            (tls / f"{file}.pem").write_bytes(path.read_bytes())


def _write_builder(config: Path, name: str, endpoint: str) -> None:
    folder = config / "buildx" / "instances"
    folder.mkdir(parents=True, exist_ok=True)
    node = {"Name": f"{name}0", "Endpoint": endpoint}
    (folder / name).write_text(json.dumps({"Name": name, "Driver": "docker-container", "Nodes": [node]}))


# The engine's own BuildKit


def test_the_engine_of_the_environment(engines: Engines) -> None:
    _assert_builder(_open("docker://", engines.settings()))

    (probe,) = find_builders(replace(engines.settings(), address=parse_address("docker://"))).probes
    version = engines.engine.api("GET", "/version")["Version"]
    assert probe.place == f"Docker Engine {version}, {engines.engine.host} (DOCKER_HOST)"


def test_the_engine_at_a_socket(engines: Engines) -> None:
    _assert_builder(_open(f"docker://{engines.engine.path}", BuilderSettings()))


def test_the_engine_at_the_default_socket(engines: Engines) -> None:
    _assert_builder(_open("docker://", BuilderSettings(engine_socket=engines.engine.path)))


def test_the_engine_of_a_context_with_certificates(engines: Engines, tmp_path: Path) -> None:
    _write_context(tmp_path, "far", f"tcp://127.0.0.1:{engines.port}", engines.certificate)

    _assert_builder(_open("docker://far", BuilderSettings(docker_config=tmp_path)))


def test_the_engine_at_a_port_with_the_environment_s_certificates(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engines.port}")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(engines.engine.shared))  # ca.pem, cert.pem and key.pem are there

    assert main(["builders", "--addr", "docker://"]) == 0
    assert "used when execution is needed: docker://\n" in capsys.readouterr().out


def test_the_engine_at_a_port_with_flags(engines: Engines) -> None:
    tls = TlsFiles(ca=engines.certificate.authority, cert=engines.certificate.file, key=engines.certificate.key)
    address = f"docker://tcp://127.0.0.1:{engines.port}"

    _assert_builder(_open(address, BuilderSettings(tls=tls)))
    assert "it wants a certificate of the client" in str(
        _fail(address, BuilderSettings(tls=TlsFiles(ca=engines.certificate.authority)))
    )
    assert "no engine answers there" in str(_fail(address, BuilderSettings()))


def test_the_engine_of_another_machine(engines: Engines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    engines.engine.program(programs)
    with ssh_server(tmp_path, programs=programs) as server:
        monkeypatch.setenv("PATH", server.client_path)
        host = f"ssh://{server.user}@127.0.0.1:{server.port}"

        _assert_builder(_open(f"docker://{host}/shared/docker.sock", BuilderSettings()))
        error = _fail(f"docker://{host}/run/docker.sock", BuilderSettings())

    assert "no engine answers there: ssh ended with status 1: " in str(error)


def test_an_engine_with_its_own_image_store_lacks_merge_and_diff(capsys: pytest.CaptureFixture[str]) -> None:
    with dockerd(containerd_store=False) as engine:
        settings = BuilderSettings(docker_host=engine.host)
        with pytest.raises(UnsupportedBuilderError) as caught:
            _open("docker://", settings)
        assert main(["builders", "--addr", f"docker://{engine.host}"]) == 3

    assert str(caught.value) == "docker://: it can't merge and diff, which a single thin layer needs"
    assert '{"features": {"containerd-snapshotter": true}} in the engine\'s daemon.json' in str(caught.value.hint)
    assert "fix: turn on the containerd image store: " in capsys.readouterr().out


# Containers


def test_a_container(engines: Engines, tmp_path: Path) -> None:
    _container(engines, "builder")
    _write_context(tmp_path, "near", engines.engine.host)

    _assert_builder(_open("docker-container://builder", engines.settings()))
    _assert_builder(_open("docker-container://builder?context=near", BuilderSettings(docker_config=tmp_path)))
    deadline = time.monotonic() + 5
    while ["buildctl", "dial-stdio"] in engines.engine.processes():
        assert time.monotonic() < deadline, "what was run in the container stays behind"
        time.sleep(0.05)


def test_a_container_that_isn_t_there(engines: Engines) -> None:
    error = _fail("docker-container://missing", engines.settings())

    assert str(error) == "docker-container://missing: there is no container missing"
    assert "docker ps" in str(error.hint)


def test_a_container_that_is_stopped_is_left_alone(engines: Engines) -> None:
    _container(engines, "stopped", start=False)

    error = _fail("docker-container://stopped", engines.settings())

    assert "is not running" in str(error)
    assert "docker start stopped" in str(error.hint)
    assert not engines.engine.api("GET", "/containers/stopped/json")["State"]["Running"]


def test_a_container_without_buildctl(engines: Engines) -> None:
    _container(engines, "plain", image="without:1")

    error = _fail("docker-container://plain", engines.settings())

    assert "buildctl" in str(error)
    assert "executable file not found" in str(error)
    assert "buildctl" in str(error.hint)


def test_a_container_without_buildkitd(engines: Engines) -> None:
    environment = {"PATH": "/bin", "BUILDKIT_HOST": "unix:///shared/gone.sock"}
    command = ["/bin/buildctl", "--addr", "unix:///shared/buildkitd.sock", "dial-stdio"]
    engines.engine.create("idle", "with-buildctl:1", command, environment=environment)

    error = _fail("docker-container://idle", engines.settings())

    assert str(error).startswith("docker-container://idle: ")
    assert "dial unix /shared/gone.sock: connect: no such file or directory" in str(error)


# buildx


def test_a_stopped_builder_of_buildx_is_started_when_it_is_needed_and_not_before(
    engines: Engines, tmp_path: Path
) -> None:
    _container(engines, "buildx_buildkit_mine0", start=False)
    _write_builder(tmp_path, "mine", engines.engine.host)
    settings = replace(engines.settings(tmp_path), address=parse_address("buildx://mine"))

    (probe,) = find_builders(settings).probes
    assert probe.state is ProbeState.FAILED
    assert "is not running" in probe.reason
    assert "docker buildx inspect --bootstrap mine" in probe.fix
    assert not engines.engine.api("GET", "/containers/buildx_buildkit_mine0/json")["State"]["Running"]

    _assert_builder(_open("buildx://mine", engines.settings(tmp_path)))
    assert engines.engine.api("GET", "/containers/buildx_buildkit_mine0/json")["State"]["Running"]


def test_a_builder_of_buildx_that_was_never_started_says_how_to(engines: Engines, tmp_path: Path) -> None:
    _write_builder(tmp_path, "new", engines.engine.host)

    error = _fail("buildx://new", engines.settings(tmp_path))

    assert "there is no container buildx_buildkit_new0" in str(error)
    assert "docker buildx inspect --bootstrap new" in str(error.hint)


# Finding one


def test_the_engine_goes_before_everything_else(engines: Engines, tmp_path: Path) -> None:
    settings = replace(engines.settings(tmp_path), buildkit_socket=engines.daemon.path)

    report = find_builders(settings)

    assert [(probe.address, probe.state) for probe in report.probes] == [
        ("docker://", ProbeState.USABLE),
        ("buildx://", ProbeState.SKIPPED),
        (engines.daemon.address, ProbeState.USABLE),
    ]
    assert report.chosen is report.probes[0]


def test_an_engine_that_lacks_something_gives_way_to_the_next(engines: Engines, tmp_path: Path) -> None:
    with dockerd(containerd_store=False) as engine:
        settings = BuilderSettings(docker_host=engine.host, docker_config=tmp_path, buildkit_socket=engines.daemon.path)
        report = find_builders(settings)
        solver = open_builder(settings)
        with closing(solver):
            assert solver.capabilities().name == engines.daemon.address

    assert [probe.state for probe in report.probes] == [ProbeState.LACKING, ProbeState.SKIPPED, ProbeState.USABLE]


def test_a_selected_builder_that_is_the_engine_itself_isn_t_tried_twice(engines: Engines, tmp_path: Path) -> None:
    _write_context(tmp_path, "near", engines.engine.host)
    settings = BuilderSettings(docker_config=tmp_path, docker_context="near", buildx_builder="near")

    probes = find_builders(settings).probes

    assert [probe.state for probe in probes[:2]] == [ProbeState.USABLE, ProbeState.SKIPPED]
    assert "is the engine of docker://" in probes[1].reason
