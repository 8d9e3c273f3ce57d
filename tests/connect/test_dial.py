# SPDX-License-Identifier: Apache-2.0
"""Every kind of address leads to a real builder; podman, nerdctl and kubectl are stand-ins that record and pipe."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.buildkit.detect import find_builders, open_builder
from copacetic.buildkit.probe import Probe, ProbeState
from copacetic.connect.address import TcpAddress, parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import BuilderUnreachableError
from copacetic.llb.solver import Capabilities
from support.builder.buildkitd import Buildkitd, buildkitd
from support.builder.gotools import go_programs
from support.builder.nativeengine import NativeEngine
from support.builder.podman import podman_container
from support.builder.processes import children_of, command_of, descendants_of
from support.builder.sshd import SshServer, ssh_server
from support.server.certificate import Certificate, make_certificate
from support.server.ports import find_port
from support.value.replacing import replace

pytestmark = pytest.mark.system


@dataclass(frozen=True, kw_only=True)
class Builders:
    """One daemon behind each kind of transport, and the certificates for those with TLS."""

    daemon: Buildkitd
    plain: TcpAddress
    secure: TcpAddress
    expired: TcpAddress
    good: Certificate
    other: Certificate

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(ca=self.good.authority, cert=self.good.file, key=self.good.key)


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builders]:
    folder = tmp_path_factory.mktemp("certificates")
    good, other = make_certificate(folder / "good"), make_certificate(folder / "other")
    expired = make_certificate(folder / "expired", days=-1)
    ports = [TcpAddress(host="127.0.0.1", port=find_port()) for _ in range(3)]
    with ExitStack() as stack:
        daemon = stack.enter_context(buildkitd(options=("--addr", str(ports[0]))))
        secure = ("--tlscert", good.file, "--tlskey", good.key, "--tlscacert", good.authority)
        stack.enter_context(buildkitd(options=("--addr", str(ports[1]), *map(str, secure))))
        late = ("--tlscert", str(expired.file), "--tlskey", str(expired.key))
        stack.enter_context(buildkitd(options=("--addr", str(ports[2]), *late)))
        for address in ports:
            _wait(address)
        yield Builders(daemon=daemon, plain=ports[0], secure=ports[1], expired=ports[2], good=good, other=other)


def _wait(address: TcpAddress) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address.host, address.port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def _open(address: str, settings: BuilderSettings | None = None) -> Capabilities:
    settings = settings or BuilderSettings(timeout=10)
    with_address = replace(settings, address=parse_address(address))
    solver = open_builder(with_address)
    try:
        return solver.capabilities()
    finally:
        solver.close()


def _fail(address: str, settings: BuilderSettings | None = None) -> BuilderUnreachableError:
    with pytest.raises(BuilderUnreachableError) as caught:
        _open(address, settings or BuilderSettings(timeout=5))
    return caught.value


def _assert_builder(capabilities: Capabilities) -> None:
    assert capabilities.version
    assert capabilities.merge_diff
    assert "linux/amd64" in map(str, capabilities.platforms)


# Sockets and ports


def test_a_socket(builders: Builders) -> None:
    capabilities = _open(builders.daemon.address)

    _assert_builder(capabilities)
    command = [str(go_programs() / "buildctl"), "--addr", builders.daemon.address, "debug", "info"]
    assert capabilities.version in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_port_without_tls(builders: Builders) -> None:
    _assert_builder(_open(str(builders.plain)))


def test_a_port_with_certificates_on_both_sides(builders: Builders) -> None:
    _assert_builder(_open(str(builders.secure), BuilderSettings(tls=builders.tls)))


def test_a_port_by_another_name_of_its_certificate(builders: Builders) -> None:
    _assert_builder(_open(str(builders.secure), BuilderSettings(tls=replace(builders.tls, server_name="localhost"))))


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            lambda tls, other: replace(tls, server_name="builder.example"),
            "its certificate isn't for 'builder.example'",
            "--tls-server-name",
        ),
        (lambda tls, other: replace(tls, ca=other.authority), "its certificate isn't trusted: ", "--cacert"),
        (lambda tls, other: TlsFiles(ca=tls.ca), "it wants a certificate of the client", "--cert and --key"),
        (
            lambda tls, other: replace(tls, cert=other.file, key=other.key),
            "it refuses the client's certificate: unknown ca",
            "--cert",
        ),
    ],
)
def test_tls_that_doesn_t_match_is_told_apart(
    builders: Builders, change: Callable[[TlsFiles, Certificate], TlsFiles], message: str, hint: str
) -> None:
    error = _fail(str(builders.secure), BuilderSettings(tls=change(builders.tls, builders.other)))

    assert message in str(error)
    assert hint in str(error.hint)


def test_a_certificate_that_has_expired(builders: Builders) -> None:
    authority = builders.good.authority.parents[1] / "expired" / "ca.crt"

    error = _fail(str(builders.expired), BuilderSettings(tls=TlsFiles(ca=authority)))

    assert str(error) == f"{builders.expired}: its certificate has expired"


def test_tls_against_a_plain_port(builders: Builders) -> None:
    error = _fail(str(builders.plain), BuilderSettings(tls=builders.tls))

    assert str(error) == f"{builders.plain}: it doesn't use TLS"


def test_a_plain_connection_to_a_port_with_tls(builders: Builders) -> None:
    assert "if it uses TLS, give --cacert" in str(_fail(str(builders.secure)).hint)


# ssh


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh"), programs=go_programs()) as running:
        yield running


def test_ssh_to_a_socket_there(builders: Builders, server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", server.client_path)

    _assert_builder(_open(f"ssh://{server.user}@127.0.0.1:{server.port}{builders.daemon.path}"))


def test_ssh_where_no_builder_is(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", server.client_path)

    error = _fail(f"ssh://{server.user}@127.0.0.1:{server.port}/no/such.sock")

    assert "dial unix /no/such.sock: connect: no such file or directory" in str(error)
    assert "buildctl debug workers" in str(error.hint)


def test_ssh_with_a_key_that_isn_t_accepted(server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", server.client_path)

    error = _fail(f"ssh://nobody@127.0.0.1:{server.port}")

    assert "Permission denied (publickey)" in str(error)


def test_ssh_to_a_host_whose_key_is_another(server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoilt = tmp_path / "ssh_config"
    text = server.configuration.read_text().replace("UserKnownHostsFile ", "UserKnownHostsFile /dev/null #")
    spoilt.write_text(text)
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {spoilt} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert "Host key verification failed." in str(_fail(f"ssh://{server.user}@127.0.0.1:{server.port}"))


def test_ssh_where_nobody_listens(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", server.client_path)

    assert "Connection refused" in str(_fail(f"ssh://127.0.0.1:{find_port()}"))


def test_no_ssh_stays_behind(builders: Builders, server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", server.client_path)

    _open(f"ssh://{server.user}@127.0.0.1:{server.port}{builders.daemon.path}")

    assert _programs() == []


def test_ssh_ends_even_when_we_are_killed(
    builders: Builders, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", server.client_path)
    address = f"ssh://{server.user}@127.0.0.1:{server.port}{builders.daemon.path}"
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from copacetic.connect.address import parse_address
from copacetic.buildkit.detect import open_builder
from copacetic.connect.settings import BuilderSettings
solver = open_builder(BuilderSettings(address=parse_address({address!r})))
print("open", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    (ssh,) = [pid for pid in descendants_of(process.pid) if any("dial-stdio" in word for word in command_of(pid))]

    process.kill()
    process.communicate()

    deadline = time.monotonic() + 10
    while _runs(ssh):
        assert time.monotonic() < deadline, "ssh stays behind"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for one that only waits to be reaped
    except OSError:
        return False


def _programs() -> list[list[str]]:
    """What this process has started to reach a builder."""
    commands = [command_of(child) for child in children_of(os.getpid())]
    return [words for words in commands if words and Path(words[0]).name in {"ssh", "buildctl"}]


# Programs that run buildctl


def _stand_in(folder: Path, name: str, daemon: Buildkitd) -> Path:
    """A program that writes down its arguments, and then is a `buildctl dial-stdio`."""
    record = folder / f"{name}.arguments"
    program = folder / name
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {record}\nexec {go_programs()}/buildctl --addr {daemon.address} dial-stdio\n'
    )
    program.chmod(0o755)
    return record


@pytest.mark.parametrize(
    ("address", "program", "arguments"),
    [
        ("podman-container://bk", "podman", "exec -i bk buildctl dial-stdio"),
        ("nerdctl-container://bk", "nerdctl", "exec -i bk buildctl dial-stdio"),
        ("nerdctl-container://bk?namespace=k8s.io", "nerdctl", "exec --namespace k8s.io -i bk buildctl dial-stdio"),
        ("kube-pod://bk-0", "kubectl", "exec -i bk-0 -- buildctl dial-stdio"),
        (
            "kube-pod://bk-0?context=me@c&namespace=build&container=buildkitd",
            "kubectl",
            "--context=me@c --namespace=build exec --container=buildkitd -i bk-0 -- buildctl dial-stdio",
        ),
    ],
)
def test_a_program_gets_the_arguments_that_buildctl_would_give_it(
    builders: Builders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, program: str, arguments: str
) -> None:
    record = _stand_in(tmp_path, program, builders.daemon)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    _assert_builder(_open(address))

    assert record.read_text().splitlines() == arguments.split()
    assert _programs() == []


def test_a_container_of_podman(builders: Builders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with podman_container(tmp_path, builders.daemon.path, monkeypatch) as container:
        _assert_builder(_open(f"podman-container://{container}"))

    assert 'no container with name or ID "buildkitd" found' in str(_fail(f"podman-container://{container}"))


# buildx


def _builder(config: Path, name: str, driver: str, *nodes: Mapping[str, object]) -> None:
    import json

    folder = config / "buildx" / "instances"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"Name": name, "Driver": driver, "Nodes": nodes}))


def test_a_remote_builder_of_buildx(builders: Builders, tmp_path: Path) -> None:
    options = {"cacert": builders.tls.ca, "cert": builders.tls.cert, "key": builders.tls.key}
    node = {"Name": "r0", "Endpoint": str(builders.secure), "DriverOpts": {k: str(v) for k, v in options.items()}}
    _builder(tmp_path, "r", "remote", node)

    _assert_builder(_open("buildx://r", BuilderSettings(docker_config=tmp_path)))


def test_a_builder_of_buildx_whose_first_node_is_gone(builders: Builders, tmp_path: Path) -> None:
    nodes = [{"Name": "r0", "Endpoint": "unix:///no/such.sock"}, {"Name": "r1", "Endpoint": builders.daemon.address}]
    _builder(tmp_path, "r", "remote", *nodes)
    settings = BuilderSettings(docker_config=tmp_path)

    _assert_builder(_open("buildx://r", settings))
    report = find_builders(replace(settings, address=parse_address("buildx://r")))
    assert [probe.state for probe in report.probes] == [ProbeState.FAILED, ProbeState.USABLE]


def test_a_builder_of_buildx_in_kubernetes(builders: Builders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = _stand_in(tmp_path, "kubectl", builders.daemon)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    node = {
        "Name": "k0",
        "Endpoint": "kubernetes:///k?deployment=k-0&kubeconfig=%2Fetc%2Fkube.yaml",
        "DriverOpts": {"namespace": "build"},
    }
    _builder(tmp_path, "k", "kubernetes", node)

    _assert_builder(_open("buildx://k", BuilderSettings(docker_config=tmp_path)))

    assert record.read_text().splitlines() == [
        "--namespace=build",
        "--kubeconfig=/etc/kube.yaml",
        "exec",
        "-i",
        "deployment/k-0",
        "--",
        "buildctl",
        "dial-stdio",
    ]


# Engines of versions that Debian doesn't have (stand-ins in front of a real buildkitd)


@pytest.mark.parametrize(
    ("api", "native", "upgrade", "asked"),
    [
        ("1.53", True, True, ["GET /version", "PRI *", "PRI *"]),
        ("1.53", False, True, ["GET /version", "PRI *", "POST /grpc"]),
        ("1.47", True, True, ["GET /version", "POST /grpc"]),
        ("1.47", True, False, ["GET /version", "POST /grpc", "PRI *", "PRI *"]),
    ],
)
def test_an_engine_is_asked_in_the_way_that_its_version_has(
    builders: Builders, api: str, native: bool, upgrade: bool, asked: list[str]
) -> None:
    with NativeEngine(builders.daemon.connect, api=api, native=native, upgrade=upgrade) as engine:
        _assert_builder(_open(engine.address))

    assert engine.asked == asked


# Finding one


def _states(settings: BuilderSettings) -> list[tuple[str, ProbeState]]:
    return [(probe.address, probe.state) for probe in find_builders(settings).probes]


def _nowhere(tmp_path: Path) -> BuilderSettings:
    """A machine without any builder."""
    return BuilderSettings(
        docker_config=tmp_path,
        engine_socket=tmp_path / "docker.sock",
        buildkit_socket=tmp_path / "buildkitd.sock",
        timeout=5,
    )


def test_where_no_builder_is_all_that_was_tried_is_said(tmp_path: Path) -> None:
    settings = _nowhere(tmp_path)

    assert _states(settings) == [
        ("docker://", ProbeState.FAILED),
        ("buildx://", ProbeState.SKIPPED),
        (f"unix://{tmp_path}/buildkitd.sock", ProbeState.FAILED),
    ]
    with pytest.raises(BuilderUnreachableError) as caught:
        open_builder(settings)
    assert str(caught.value) == (
        f"no builder answers: docker://: there is no {tmp_path}/docker.sock; buildx://: no builder is selected; "
        f"unix://{tmp_path}/buildkitd.sock: there is no {tmp_path}/buildkitd.sock"
    )
    assert "copa builders" in str(caught.value.hint)
    assert "--strategy unpack" in str(caught.value.hint)


def test_buildkitd_at_its_default_socket_is_found_last(builders: Builders, tmp_path: Path) -> None:
    settings = replace(_nowhere(tmp_path), buildkit_socket=builders.daemon.path)

    assert _states(settings)[-1] == (builders.daemon.address, ProbeState.USABLE)
    solver = open_builder(settings)
    solver.close()


def test_a_builder_that_buildx_selected_goes_before_buildkitd(builders: Builders, tmp_path: Path) -> None:
    _builder(tmp_path, "mine", "remote", {"Name": "mine0", "Endpoint": str(builders.plain)})
    settings = replace(_nowhere(tmp_path), buildkit_socket=builders.daemon.path, buildx_builder="mine")

    report = find_builders(settings)

    assert [probe.state for probe in report.probes] == [ProbeState.FAILED, ProbeState.USABLE, ProbeState.USABLE]
    chosen = report.chosen
    assert isinstance(chosen, Probe)
    assert chosen.address == "buildx://mine"


def test_buildkitd_without_root_is_found_in_its_user_s_folder(builders: Builders, tmp_path: Path) -> None:
    (tmp_path / "buildkit").mkdir()
    (tmp_path / "buildkit" / "buildkitd.sock").symlink_to(builders.daemon.path)
    settings = replace(_nowhere(tmp_path), runtime_dir=tmp_path)

    assert _states(settings)[-1] == (f"unix://{tmp_path}/buildkit/buildkitd.sock", ProbeState.USABLE)


def test_a_named_address_that_fails_is_the_only_one_that_is_tried(builders: Builders, tmp_path: Path) -> None:
    address = parse_address("unix:///no/such.sock")
    settings = replace(_nowhere(tmp_path), buildkit_socket=builders.daemon.path, address=address)

    assert _states(settings) == [("unix:///no/such.sock", ProbeState.FAILED)]
    with pytest.raises(BuilderUnreachableError, match=r"^unix:///no/such.sock: there is no /no/such.sock$"):
        open_builder(settings)


def test_a_builder_that_stops_answering_is_left_with_a_reason(tmp_path: Path) -> None:
    with buildkitd() as daemon:
        os.kill(daemon.process.pid, 0)
        for pid in descendants_of(daemon.process.pid):
            os.kill(pid, signal.SIGSTOP)
        try:
            error = _fail(daemon.address, BuilderSettings(timeout=1))
        finally:
            for pid in descendants_of(daemon.process.pid):
                os.kill(pid, signal.SIGCONT)

    assert str(error) == f"{daemon.address}: no answer within 1 s"
