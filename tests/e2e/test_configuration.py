# SPDX-License-Identifier: Apache-2.0
"""Flag, environment, configuration file, default: in this order; a slip in the file is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})
DOCUMENTATION = Path(__file__).parents[2] / "docs/reference/configuration.md"


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@pytest.fixture
def image(tmp_path: Path, repository: Repository) -> str:
    return write_image(tmp_path / "layout", debian_image(repository, [FOO]))


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config/copacetic/config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_flag_environment_file_and_default_in_this_order(
    image: str, configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_json(*flags: str) -> bool:
        assert main(["plan", "-i", image, "--no-cache", "-q", *flags]) == 0
        return capsys.readouterr().out.startswith("{")

    assert not is_json()
    configuration.write_text('[plan]\nformat = "json"\n')
    assert is_json()
    monkeypatch.setenv("COPA_FORMAT", "table")
    assert not is_json()
    assert is_json("--format", "json")


def test_flags_with_other_names_inside_are_read_by_their_own(
    tmp_path: Path, image: str, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.json"
    assert main(["plan", "-i", image, "--no-cache", "-q", "--format", "json", "-o", str(plan)]) == 0
    configuration.write_text(
        f'[patch]\nto = "oci:{tmp_path / "out"}:1"\nplan = "{plan}"\nno-cache = true\nquiet = true\n'
    )

    assert main(["patch", "-i", image]) == 0

    assert capsys.readouterr().out.startswith(f"oci:{tmp_path / 'out'}:1@sha256:")


def test_the_documented_file_is_understood(image: str, configuration: Path, repository: Repository) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    configuration.write_text(
        text.replace("http://mirror.example/debian bookworm", f"{repository.address} stable-security")
    )

    assert main(["plan", "-i", image, "--no-cache", "-q"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[patch]\nignore-erors = true\n", "did you mean 'ignore-errors'?"),
        ("[patch]\nzzz = 1\n", "[patch] has 'zzz', which is no flag"),
        ("[pacth]\nquiet = true\n", "has 'pacth', which is no command"),
        ("patch = 3\n", "'patch' is no table"),
        ("[patch]\njobs = 'many'\n", "jobs"),
        ("[patch\n", "can't use the configuration"),
    ],
)
def test_a_slip_in_the_file_is_named(
    tmp_path: Path, image: str, configuration: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    configuration.write_text(text)

    assert main(["patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1"]) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_empty_name_of_a_file_is_none(
    image: str, configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration.write_text("[nonsense")
    monkeypatch.setenv("COPA_CONFIG", "")

    assert main(["plan", "-i", image, "--no-cache", "-q", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "copacetic.plan"
