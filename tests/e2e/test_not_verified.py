# SPDX-License-Identifier: Apache-2.0
"""A repository that isn't verified is named on every page that tells of a run, and is used only by the user's word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.documents import encode
from copacetic.printable import printable
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.value.plandocuments import section_of

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})
UNSIGNED = "--allow-unsigned-repository"
EXPIRED = "--allow-expired-repository"


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


class Runs:
    """What one image's runs say, on every page."""

    def __init__(self, folder: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._image = image
        self._capsys = capsys

    def run(self, command: str, *arguments: str) -> tuple[int, str]:
        code = main([command, "-i", self._image, "--cache-dir", str(self._folder / "cache"), *arguments])
        captured = self._capsys.readouterr()
        return code, captured.out + captured.err

    def patch(self, *arguments: str) -> tuple[int, str]:
        return self.run("patch", "--to", f"oci:{self._folder / 'out'}:1", *arguments)


@pytest.fixture(params=["unsigned", "expired"])
def flag(request: pytest.FixtureRequest, repository: Repository) -> str:
    """The flag that the repository takes from now on."""
    if request.param == "expired":
        repository.publish(release={"Valid-Until": "Thu, 01 Jan 2015 00:00:00 UTC"})
        return EXPIRED
    for name in ("InRelease", "Release.gpg"):
        repository.files.pop(f"dists/{repository.suite}/{name}")
    return UNSIGNED


@pytest.fixture
def runs(tmp_path: Path, repository: Repository, flag: str, capsys: pytest.CaptureFixture[str]) -> Runs:
    """An image that says that neither signatures nor dates matter."""
    line = repository.definition.replace("deb ", "deb [trusted=yes check-valid-until=no] ")
    image = debian_image(repository, [FOO], more={"etc/apt/sources.list": f"{line}\n"})
    return Runs(tmp_path, write_image(tmp_path / "layout", image), capsys)


def test_what_the_image_says_of_its_repository_changes_nothing(tmp_path: Path, runs: Runs, flag: str) -> None:
    code, text = runs.patch()

    assert code == 1
    assert flag in text
    assert "in an image is not enough" in text
    assert not (tmp_path / "out").exists()
    assert runs.run("plan")[0] == 1


def test_the_summary_names_it_with_and_without_a_plan_file(
    tmp_path: Path, runs: Runs, flag: str, repository: Repository
) -> None:
    wanted = f"NOT VERIFIED: {repository.address} stable-security main (etc/apt/sources.list:1): "
    plan = str(tmp_path / "plan.json")

    assert wanted in runs.run("plan", flag)[1]
    assert runs.run("plan", flag, "--format", "json", "-o", plan)[0] == 0
    for more in ((), ("-q",), ("--progress", "rawjson"), ("--plan", plan)):
        code, text = runs.patch(flag, *more)
        assert code == 0
        assert wanted in text
        assert f"allowed by {flag}" in text


def test_the_documents_and_the_job_s_page_name_it(
    tmp_path: Path, runs: Runs, flag: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert runs.patch(flag, "-o", str(tmp_path / "outcome.json"))[0] == 0

    (platform,) = json.loads((tmp_path / "outcome.json").read_text())["platforms"]
    (row,) = platform["notVerified"]
    assert (row["uri"], row["suite"], row["definedIn"]) == (
        repository.address,
        "stable-security",
        "etc/apt/sources.list:1",
    )
    assert row["reason"].endswith(f"allowed by {flag}")
    (listed,) = section_of(platform["plan"])["repositories"]
    assert listed["notVerified"] == row["reason"]
    assert bool(listed["signedBy"]) == (flag == EXPIRED)
    assert f"> **NOT VERIFIED: {repository.address} stable-security main" in (tmp_path / "summary").read_text()


def test_a_run_with_nothing_to_do_names_it_too(tmp_path: Path, runs: Runs, flag: str, repository: Repository) -> None:
    repository.publish([FOO], release={"Valid-Until": "Thu, 01 Jan 2015 00:00:00 UTC"} if flag == EXPIRED else {})
    if flag == UNSIGNED:
        repository.files[f"dists/{repository.suite}/InRelease"] = repository.files[f"dists/{repository.suite}/Release"]

    code, text = runs.patch(flag)

    assert code == 0
    assert "nothing to do" in text
    assert "NOT VERIFIED: " in text


# -- what is said by others ----------------------------------------------------------------------------------

STEERING = "\x1b]0;owned\x07\x9b31m\u202e\u2066\u200b\x7f"
"""Control characters of both kinds, and some that turn the direction or can't be seen."""


def test_no_document_and_no_page_has_a_control_character_of_a_repository_s_or_an_image_s(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.publish(release={"Label": f"Label{STEERING}"})
    os_release = f'PRETTY_NAME="Name{STEERING}"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO], more={"etc/os-release": os_release}))
    cache = ["--cache-dir", str(tmp_path / "cache")]
    outcome = tmp_path / "outcome.json"

    assert main(["plan", "-i", image, "--format", "json", *cache]) == 0
    assert main(["inspect", image, "--format", "json", *cache]) == 0
    assert main(["plan", "-i", image, *cache]) == 0
    assert main(["patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", "-o", str(outcome), *cache]) == 0

    captured = capsys.readouterr()
    for text in (captured.out, captured.err, outcome.read_text()):
        assert text.replace("\n", "").isprintable()
    plan = json.loads(outcome.read_text())["platforms"][0]["plan"]
    assert plan["distro"].startswith("Name\\x1b")
    assert section_of(plan)["repositories"][0]["label"] == printable(f"Label{STEERING}")


def test_a_document_keeps_what_it_has_to_escape() -> None:
    text = f"é{STEERING}\U000e0001\n"

    data = encode({"a": text})

    assert data.decode().replace("\n", "").isprintable()
    assert "é" in data.decode()
    assert json.loads(data) == {"a": text}
