# SPDX-License-Identifier: Apache-2.0
"""What flags and environment say about builders, and how their report is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from copacetic.buildkit.probe import BuilderReport, Probe, ProbeState
from copacetic.cli.builder import make_builder_settings, make_engine_settings
from copacetic.connect.address import DockerAddress, TcpAddress, UnixAddress
from copacetic.connect.settings import BuilderSettings
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import InvalidAddressError, UsageError
from copacetic.llb.solver import Capabilities
from copacetic.oci import Platform
from copacetic.tables import builders_table


def _settings(environment: dict[str, str] | None = None, **flags: Any) -> BuilderSettings:
    values = dict.fromkeys(("addr", "cacert", "cert", "key", "tls_server_name"))
    return make_builder_settings({**values, **flags}, {"HOME": "/home/me", **(environment or {})})


def test_nothing_said_leaves_the_builder_to_be_looked_for() -> None:
    assert _settings() == BuilderSettings(origin="default", docker_config=Path("/home/me/.docker"))


def test_a_flag_goes_before_the_environment() -> None:
    environment = {"BUILDKIT_HOST": "unix:///run/other.sock"}

    assert _settings(environment, addr="docker://").address == DockerAddress()
    assert _settings(environment, addr="docker://").origin == "--addr"
    assert _settings(environment).address == UnixAddress(path="/run/other.sock")
    assert _settings(environment).origin == "BUILDKIT_HOST"


@pytest.mark.parametrize(("environment", "flag"), [({}, "nonsense"), ({"BUILDKIT_HOST": "nonsense"}, None)])
def test_a_malformed_address_is_refused_with_who_said_it(environment: dict[str, str], flag: str | None) -> None:
    with pytest.raises(InvalidAddressError, match="--addr: 'nonsense'" if flag else "BUILDKIT_HOST: 'nonsense'"):
        _settings(environment, addr=flag)


def test_images_of_engines_need_no_builder_s_flags() -> None:
    environment = {"HOME": "/home/me", "DOCKER_HOST": "ssh://host.example", "CONTAINER_HOST": "unix:///run/p.sock"}

    settings = make_engine_settings(environment)

    assert (settings.docker_host, settings.container_host) == ("ssh://host.example", "unix:///run/p.sock")
    assert settings.docker_config == Path("/home/me/.docker")


def test_the_variables_of_docker_and_buildx_are_carried() -> None:
    settings = _settings(
        {
            "DOCKER_CONFIG": "/etc/docker-cli",
            "DOCKER_HOST": "ssh://host.example",
            "DOCKER_CONTEXT": "far",
            "BUILDX_CONFIG": "/etc/buildx",
            "BUILDX_BUILDER": "mine",
            "XDG_RUNTIME_DIR": "/run/user/1000",
        }
    )

    assert settings.docker_config == Path("/etc/docker-cli")
    assert (settings.docker_host, settings.docker_context) == ("ssh://host.example", "far")
    assert (settings.buildx_config, settings.buildx_builder) == (Path("/etc/buildx"), "mine")
    assert settings.runtime_dir == Path("/run/user/1000")


def test_docker_s_certificates_are_those_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()

    assert not _settings().docker_tls
    assert _settings({"DOCKER_CERT_PATH": str(tmp_path)}).docker_tls == TlsFiles(ca=tmp_path / "ca.pem")
    verify = _settings({"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": str(tmp_path)})
    assert verify.docker_tls == TlsFiles(ca=tmp_path / "ca.pem")


def test_tls_flags_go_with_an_address() -> None:
    tls = _settings(addr="tcp://host.example:1", cacert=Path("ca"), cert=Path("c"), key=Path("k"), tls_server_name="n")

    assert tls.address == TcpAddress(host="host.example", port=1)
    assert tls.tls == TlsFiles(ca=Path("ca"), cert=Path("c"), key=Path("k"), server_name="n")
    with pytest.raises(UsageError, match="say nothing without an address"):
        _settings(cacert=Path("ca"))
    with pytest.raises(UsageError, match="--cert and --key belong together"):
        _settings(addr="tcp://host.example:1", cert=Path("c"))


PLATFORMS = tuple(Platform.parse(f"linux/{name}") for name in ("amd64", "arm64", "386", "riscv64"))
REPORT = BuilderReport(
    probes=(
        Probe(
            address="docker://",
            origin="default",
            place="Docker Engine 28.0.4, unix:///var/run/docker.sock (default socket)",
            state=ProbeState.LACKING,
            capabilities=Capabilities(name="docker://", version="v0.20.2", platforms=PLATFORMS, merge_diff=False),
            reason="docker://: it can't merge and diff",
            fix="turn on the containerd image store",
        ),
        Probe(address="buildx://", origin="default", state=ProbeState.SKIPPED, reason="no builder is selected"),
        Probe(
            address="unix:///run/buildkit/buildkitd.sock",
            origin="default",
            state=ProbeState.USABLE,
            capabilities=Capabilities(name="x", version="v0.32.2", platforms=PLATFORMS[:1]),
        ),
    )
)


def test_the_table_shows_what_was_tried_what_is_wrong_and_what_is_used() -> None:
    assert builders_table(REPORT) == (
        "ADDRESS                              NAMED BY  USABLE  VERSION  MERGE/DIFF  PLATFORMS\n"
        "docker://                            default   no      v0.20.2  no          linux/amd64, linux/arm64, linux/386 +1\n"
        "buildx://                            default   -       -        -           -\n"
        "unix:///run/buildkit/buildkitd.sock  default   yes     v0.32.2  yes         linux/amd64\n"
        "\n"
        "docker://: it can't merge and diff\n"
        "  is: Docker Engine 28.0.4, unix:///var/run/docker.sock (default socket)\n"
        "  fix: turn on the containerd image store\n"
        "\n"
        "no builder is selected\n"
        "\n"
        "used when execution is needed: unix:///run/buildkit/buildkitd.sock\n"
    )


def test_the_document_says_the_same_to_programs() -> None:
    document = json.loads(REPORT.to_json())

    assert document["kind"] == "copacetic.builders"
    assert document["chosen"] == "unix:///run/buildkit/buildkitd.sock"
    assert [one["state"] for one in document["builders"]] == ["lacking", "skipped", "usable"]
    assert document["builders"][0]["mergeDiff"] is False
    assert document["builders"][1]["platforms"] == []
    assert document["builders"][2]["version"] == "v0.32.2"


def test_what_a_builder_says_of_itself_can_t_steer_the_terminal() -> None:
    hostile = Capabilities(name="x", version="\x1b[2J\nv1", platforms=())
    report = BuilderReport(
        probes=(
            Probe(
                address="x",
                origin="--addr",
                state=ProbeState.USABLE,
                capabilities=hostile,
                place="a\x07\nb",
                reason="\r",
            ),
        )
    )

    assert "\x1b" not in builders_table(report)
    assert "\x07" not in builders_table(report)
    assert "\r" not in builders_table(report)
