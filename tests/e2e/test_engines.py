# SPDX-License-Identifier: Apache-2.0
"""From an engine's image to another one there, by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.connect.address import UnixAddress
from copacetic.connect.dockercontext import EnginePlace
from copacetic.connect.engine import open_engine
from copacetic.oci import Reference
from copacetic.oci.engine import EngineDestination
from support.builder.dockerd import Dockerd, dockerd
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository
from support.image.images import MemorySource, copy_image, make_index, write_layout

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@pytest.fixture(scope="module")
def engine() -> Iterator[Dockerd]:
    with dockerd() as running:
        yield running


def run(capsys: pytest.CaptureFixture[str], cache: Path, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--cache-dir", str(cache), "-q"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.system
@pytest.mark.xdist_group("dockerd")
def test_an_image_is_patched_where_docker_keeps_it(
    tmp_path: Path,
    repository: Repository,
    engine: Dockerd,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    client = open_engine(EnginePlace(host=UnixAddress(path=str(engine.path))), 10, name="docker")
    target = EngineDestination("docker", Reference.parse("team/app:1"), client)
    copy_image(MemorySource(debian_image(repository, [FOO])), target)

    code, out, err = run(capsys, tmp_path, "patch", "-i", "docker:team/app:1", "--to", "docker:team/app:2")

    assert (code, err) == (0, "")
    digest = engine.api("GET", "/images/team/app:2/json")["Id"]
    assert out == f"docker:docker.io/team/app:2@{digest}\n"
    assert run(capsys, tmp_path, "patch", "-i", "docker:team/app:2", "--to", "docker:team/app:3") == (0, "", "")
    assert "foo" in run(capsys, tmp_path, "inspect", "docker:team/app:2")[1]


def test_an_engine_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")

    code, out, err = run(capsys, tmp_path, "inspect", "docker:web")

    assert (code, out) == (1, "")
    where = f"docker at unix://{tmp_path}/docker.sock (DOCKER_HOST)"
    assert err.startswith(f"error: {where}: there is no {tmp_path}/docker.sock\nhint: ")


def test_one_platform_has_to_be_chosen_for_an_engine(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [debian_image(repository, [FOO], platform=f"linux/{name}") for name in ("amd64", "arm64")]
    write_layout(tmp_path / "layout", {"1": make_index(images)})
    arguments = ("-i", f"oci:{tmp_path}/layout:1", "--to", "docker:web", "--platform", "linux/amd64,linux/arm64")

    code, _, err = run(capsys, tmp_path, "patch", *arguments)

    assert code == 2
    assert err.startswith("error: docker's storage holds one image\nhint: choose one --platform")
